use std::time::Instant;

use super::*;
use crate::wait::until;

const SOON: Duration = Duration::from_secs(10);

/// A server that says back whatever it hears, and keeps it.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let keeps = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let keeps = keeps.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = client.read(&mut buffer).await {
                        keeps.lock().unwrap().extend_from_slice(&buffer[..read]);
                        let _ = client.write_all(&buffer[..read]).await;
                    }
                });
            }
        });
        Echo { address, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }

    async fn wait_heard(&self, text: &str) {
        until(text, SOON, || async { (self.heard() == text).then_some(()) }).await.unwrap();
    }
}

async fn proxy(echo: &Echo) -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo.address).await.unwrap();
    let client = connect(&proxy).await;
    (proxy, client)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
}

/// Says something and waits until it comes back.
async fn echoed(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0; text.len()];
    tokio::time::timeout(SOON, client.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text.as_bytes());
}

async fn is_reset(client: &mut TcpStream) {
    let error = tokio::time::timeout(SOON, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

fn pattern(text: &str) -> Mark {
    Mark::Pattern(text.into())
}

#[tokio::test]
async fn passes_everything_on_until_it_cuts() {
    let echo = Echo::start().await;
    let (proxy, mut one) = proxy(&echo).await;
    let mut other = connect(&proxy).await;
    echoed(&mut one, "hello").await;
    echoed(&mut other, "world").await;
    assert_eq!(proxy.cut(), 2);
    is_reset(&mut one).await;
    is_reset(&mut other).await;
    let mut new = connect(&proxy).await;
    echoed(&mut new, "again").await;
    assert_eq!(proxy.counts(), Counts { connections: 3, cuts: 2, ..Counts::default() });
}

#[tokio::test]
async fn refuses_and_leads_elsewhere() {
    let (echo, other) = (Echo::start().await, Echo::start().await);
    let (proxy, mut open) = proxy(&echo).await;
    echoed(&mut open, "one").await;
    proxy.refuse(true);
    // The reset may come so soon that not even the connect succeeds.
    if let Ok(mut refused) = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await {
        is_reset(&mut refused).await;
    }
    assert_eq!(proxy.counts().refused, 1);
    proxy.refuse(false);
    proxy.forward_to(other.address);
    echoed(&mut connect(&proxy).await, "two").await;
    echoed(&mut open, "three").await;
    assert_eq!((echo.heard().as_str(), other.heard().as_str()), ("onethree", "two"));
}

#[tokio::test]
async fn swallows_one_direction() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    proxy.swallow(Direction::ToClient, true);
    client.write_all(b"unanswered").await.unwrap();
    echo.wait_heard("unanswered").await;
    until("the answer to be lost", SOON, || async { (proxy.counts().swallowed_bytes == 10).then_some(()) }).await.unwrap();
    proxy.swallow(Direction::ToClient, false);
    echoed(&mut client, "answered").await;

    proxy.swallow(Direction::ToServer, true);
    client.write_all(b"unheard").await.unwrap();
    until("it to be lost", SOON, || async { (proxy.counts().swallowed_bytes == 17).then_some(()) }).await.unwrap();
    assert_eq!(echo.heard(), "unansweredanswered");
}

#[tokio::test]
async fn delays() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    proxy.delay(Direction::ToServer, Duration::from_millis(50));
    proxy.delay(Direction::ToClient, Duration::from_millis(30));
    let before = Instant::now();
    echoed(&mut client, "slow").await;
    assert!(before.elapsed() >= Duration::from_millis(80));
    assert_eq!(proxy.counts().delayed_pieces, 2);
}

#[tokio::test]
async fn cuts_after_a_mark_that_comes_in_pieces() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    proxy.after(Direction::ToServer, pattern("COMMIT"), Then::CutAfter);
    for piece in ["begin COM", "COMM"] {
        echoed(&mut client, piece).await;
    }
    client.write_all(b"IT and more").await.unwrap();
    is_reset(&mut client).await;
    echo.wait_heard("begin COMCOMMIT").await;
    assert_eq!(proxy.counts(), Counts { connections: 1, cuts: 1, marks: 1, ..Counts::default() });
    echoed(&mut connect(&proxy).await, "COMMIT").await;
}

#[tokio::test]
async fn cuts_before_a_mark() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    echoed(&mut client, "begin ").await;
    proxy.after(Direction::ToServer, pattern("COMMIT"), Then::CutBefore);
    let mut other = connect(&proxy).await;
    echoed(&mut other, "begin ").await;
    client.write_all(b"work COMMIT").await.unwrap();
    is_reset(&mut client).await;
    is_reset(&mut other).await;
    assert_eq!(proxy.counts().cuts, 2);
    echo.wait_heard("begin begin work ").await;
}

#[tokio::test]
async fn is_silent_after_a_mark() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    proxy.after(Direction::ToServer, pattern("COMMIT"), Then::Silence);
    let mut other = connect(&proxy).await;
    client.write_all(b"COMMIT").await.unwrap();
    echo.wait_heard("COMMIT").await;
    until("the answer to be lost", SOON, || async { (proxy.counts().swallowed_bytes == 6).then_some(()) }).await.unwrap();
    echoed(&mut other, "hello").await;
}

#[tokio::test]
async fn cuts_after_so_many_bytes() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    proxy.after(Direction::ToServer, Mark::Bytes(8), Then::CutAfter);
    echoed(&mut client, "12345").await;
    client.write_all(b"67890").await.unwrap();
    is_reset(&mut client).await;
    echo.wait_heard("12345678").await;
}

#[tokio::test]
async fn ends_when_dropped() {
    let echo = Echo::start().await;
    let (proxy, mut client) = proxy(&echo).await;
    echoed(&mut client, "hello").await;
    let port = proxy.port();
    drop(proxy);
    assert!(tokio::time::timeout(SOON, client.read_u8()).await.unwrap().is_err());
    until("the port to be closed", SOON, || async { (!crate::ports::answers(port)).then_some(()) }).await.unwrap();
}
