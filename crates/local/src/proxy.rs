//! A TCP proxy on 127.0.0.1 that fails when a test says so: it stands between a service and its Postgres or Kafka.
//!
//! What it did is counted, so that a test can show that its fault happened.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::Error;

/// Read and passed on at once, at most.
const PIECE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// A place in what passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// After so many bytes from now on, those of all connections together.
    Bytes(usize),
    /// These bytes on one connection, in however many pieces they come.
    Pattern(Vec<u8>),
}

/// What happens when a mark comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Everything up to the mark and the mark itself pass, then all connections are cut.
    CutAfter,
    /// The mark does not pass, not as a whole: all connections are cut before.
    CutBefore,
    /// The mark passes, and nothing comes back on its connection any more: the other side works on, and nobody hears of it.
    Silence,
}

/// What the proxy did since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were passed on.
    pub connections: usize,
    pub refused: usize,
    /// Connections that were reset.
    pub cuts: usize,
    pub swallowed_bytes: usize,
    pub delayed_pieces: usize,
    /// Marks that came by.
    pub marks: usize,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    refuse: bool,
    // By direction.
    delay: [Duration; 2],
    swallow: [bool; 2],
    trap: Option<(Direction, Mark, Then)>,
    counts: Counts,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Every open connection listens.
    cut: watch::Sender<()>,
}

/// A running proxy. Dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and passes everything on to `target`, until told otherwise.
    pub async fn start(target: SocketAddr) -> Result<Proxy, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::NoPort)?;
        let port = listener.local_addr().map_err(Error::NoPort)?.port();
        let (delay, swallow, counts) = ([Duration::ZERO; 2], [false; 2], Counts::default());
        let state = State { target, refuse: false, delay, swallow, trap: None, counts };
        let shared = Arc::new(Shared { state: Mutex::new(state), cut: watch::Sender::new(()) });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Proxy { shared, port, accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where new connections lead from now on: a server that was started again may have another port.
    pub fn forward_to(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// New connections are reset; those that are open go on.
    pub fn refuse(&self, on: bool) {
        self.shared.state().refuse = on;
    }

    /// Each piece that is read in this direction waits so long before it is passed on.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.shared.state().delay[direction as usize] = by;
    }

    /// A black hole: bytes in this direction are taken and never arrive, on all connections.
    pub fn swallow(&self, direction: Direction, on: bool) {
        self.shared.state().swallow[direction as usize] = on;
    }

    /// Resets all open connections, and says how many.
    pub fn cut(&self) -> usize {
        self.shared.cut_all()
    }

    /// Waits for the mark in this direction, on whatever connection it comes first; then it is over. A later call replaces an earlier one.
    pub fn after(&self, direction: Direction, mark: Mark, then: Then) {
        assert!(mark != Mark::Pattern(Vec::new()), "nothing is everywhere");
        self.shared.state().trap = Some((direction, mark, then));
    }

    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its connections are tasks of this one's, and end with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) if shared.refuses() => reset(&client),
                Ok((client, _)) => {
                    links.spawn(link(client, shared.clone()));
                }
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = links.join_next() => {}
        }
    }
}

async fn link(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let target = shared.state().target;
    let Ok(mut server) = TcpStream::connect(target).await else { return reset(&client) };
    shared.state().counts.connections += 1;
    // Without it only the timing differs.
    let _ = client.set_nodelay(true).and(server.set_nodelay(true));
    let silent = [AtomicBool::new(false), AtomicBool::new(false)];
    let is_cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            _ = cut.changed() => true,
            is_cut = pump(Direction::ToServer, (from_client, to_server), &shared, &silent) => is_cut,
            is_cut = pump(Direction::ToClient, (from_server, to_client), &shared, &silent) => is_cut,
        }
    };
    if is_cut {
        reset(&client);
        reset(&server);
    }
}

/// When it is dropped now, its other side is told by a reset: no goodbye, and what is still under way is lost.
fn reset(stream: &TcpStream) {
    // It fails only for one that is gone already.
    let _ = stream.set_zero_linger();
}

/// Passes bytes on until a side closes, or, then it is true, until a mark has come by where everything is cut.
async fn pump(to_whom: Direction, ends: (ReadHalf<'_>, WriteHalf<'_>), shared: &Shared, silent: &[AtomicBool; 2]) -> bool {
    let (mut from, mut to) = ends;
    let way = to_whom as usize;
    let (mut buffer, mut tail) = (vec![0; PIECE_BYTES_MAX], Vec::new());
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
        let (passes, cut) = match shared.spring(to_whom, &mut tail, &buffer[..read]) {
            None => (read, false),
            Some((start, _, Then::CutBefore)) => (start, true),
            Some((_, end, Then::CutAfter)) => (end, true),
            Some((_, _, Then::Silence)) => {
                // Before the mark passes: its answer may be quick.
                silent[1 - way].store(true, Ordering::SeqCst);
                (read, false)
            }
        };
        let delay = shared.delays(way);
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let swallows = shared.swallows(way, passes, silent[way].load(Ordering::SeqCst));
        if !swallows && to.write_all(&buffer[..passes]).await.is_err() {
            return false;
        }
        if cut {
            shared.cut_all();
            return true;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut_all(&self) -> usize {
        let open = self.cut.receiver_count();
        self.state().counts.cuts += open;
        self.cut.send_replace(());
        open
    }

    fn refuses(&self) -> bool {
        let mut state = self.state();
        state.counts.refused += usize::from(state.refuse);
        state.refuse
    }

    fn delays(&self, way: usize) -> Duration {
        let mut state = self.state();
        state.counts.delayed_pieces += usize::from(!state.delay[way].is_zero());
        state.delay[way]
    }

    fn swallows(&self, way: usize, bytes: usize, silent: bool) -> bool {
        let mut state = self.state();
        let swallows = silent || state.swallow[way];
        state.counts.swallowed_bytes += if swallows { bytes } else { 0 };
        swallows
    }

    /// Where in this piece the mark begins (0 if it began in an earlier one) and ends, if it is in it. `tail` may be its beginning.
    fn spring(&self, direction: Direction, tail: &mut Vec<u8>, piece: &[u8]) -> Option<(usize, usize, Then)> {
        let mut state = self.state();
        let Some((_, mark, then)) = state.trap.as_mut().filter(|(set, ..)| *set == direction) else {
            tail.clear();
            return None;
        };
        let then = *then;
        let (start, end) = match mark {
            Mark::Bytes(left) if *left > piece.len() => {
                *left -= piece.len();
                return None;
            }
            Mark::Bytes(left) => (*left, *left),
            Mark::Pattern(pattern) => {
                let before = tail.len();
                tail.extend_from_slice(piece);
                let Some(start) = tail.windows(pattern.len()).position(|window| window == pattern.as_slice()) else {
                    tail.drain(..(tail.len() + 1).saturating_sub(pattern.len()));
                    return None;
                };
                // The tail alone is shorter than the pattern, so the end is in this piece.
                (start.saturating_sub(before), start + pattern.len() - before)
            }
        };
        state.trap = None;
        state.counts.marks += 1;
        tail.clear();
        Some((start, end, then))
    }
}

#[cfg(test)]
mod tests;
