//! A private Apache Kafka: one node, broker and controller in one, on 127.0.0.1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use tokio::{sync::OnceCell, time::sleep};

use crate::{
    Error, kafka_jars, log, ports, process,
    watch::{self, Plan, Watched},
};

const START_WITHIN: Duration = Duration::from_secs(60);
const FORMAT_WITHIN: Duration = Duration::from_secs(60);
/// A predecessor that was killed.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// TERM and KILL have ten seconds each.
const STOP_WITHIN: Duration = Duration::from_secs(25);
const STARTED: &str = "Kafka Server started";

/// The Java that Kafka would run on.
pub fn java() -> Result<PathBuf, Error> {
    kafka_jars::java()
}

/// A running broker. Dropping it begins a clean shutdown; [`Kafka::stop`] also waits for it.
#[derive(Debug)]
pub struct Kafka {
    server: Watched,
    home: Home,
    port: u16,
}

impl Kafka {
    /// Starts the broker kept in `dir`/kafka, on the port it had last time when that is free. The first start on a machine
    /// fetches the jars.
    pub async fn start(dir: &Path) -> Result<Kafka, Error> {
        Kafka::start_in(Home::prepare(dir, false)?, None).await
    }

    /// Its directory is removed when it is stopped or we end.
    pub async fn start_throwaway(dir: &Path) -> Result<Kafka, Error> {
        Kafka::start_in(Home::prepare(dir, true)?, None).await
    }

    /// The same, with clients sent to another port: there something stands in front of it, which they cannot pass by.
    pub async fn start_throwaway_behind(dir: &Path, advertised_port: u16) -> Result<Kafka, Error> {
        Kafka::start_in(Home::prepare(dir, true)?, Some(advertised_port)).await
    }

    async fn start_in(home: Home, advertised_port: Option<u16>) -> Result<Kafka, Error> {
        process::wait_until_gone("Kafka", "java", &home.root, home.noted_pid(), GONE_WITHIN).await?;
        let java = kafka_jars::java()?;
        let jars = kafka_jars::directory().await?;
        home.write("log4j2.properties", LOG4J)?;
        if !home.data().is_dir() {
            home.format(&java, &jars).await?;
        }
        let deadline = Instant::now() + START_WITHIN;
        let mut port = ports::remembered(&home.port_file())?;
        loop {
            let properties =
                home.write("server.properties", &properties(port, advertised_port.unwrap_or(port), ports::free()?, &home.data()))?;
            let before = log::size(&home.log);
            let mut plan = home.java(&java, &jars).args(["-Xms256m", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "kafka.Kafka"]);
            plan = plan.arg(properties);
            plan.remove_after = home.throwaway.then(|| home.root.clone());
            let server = Watched::start(&plan)?;
            home.write("pid", &server.pid().to_string())?;
            let Some(said) = ready_or_ended(&server, &home, port, before).await? else {
                ports::remember(&home.port_file(), port)?;
                return Ok(Kafka { server, home, port });
            };
            if !ports::taken(&said) {
                return Err(Error::Failed { what: "Kafka".to_owned(), why: log::last_words(&said), log: home.log });
            }
            if Instant::now() >= deadline {
                return Err(late(&home));
            }
            port = ports::free()?;
        }
    }

    /// For `bootstrap.servers` and KAFKA_BROKERS.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub fn log(&self) -> PathBuf {
        self.home.log.clone()
    }

    /// Waits for the broker's end, whoever causes it.
    pub async fn end(&self) -> ExitStatus {
        self.server.end().await
    }

    pub fn signal(&self, signal: process::Signal) -> std::io::Result<()> {
        self.server.signal(signal)
    }

    pub async fn stop(self) -> Result<(), Error> {
        self.server.stop(STOP_WITHIN).await?;
        Ok(())
    }
}

/// `DIR/kafka`.
#[derive(Debug)]
struct Home {
    root: PathBuf,
    log: PathBuf,
    throwaway: bool,
}

impl Home {
    fn prepare(dir: &Path, throwaway: bool) -> Result<Home, Error> {
        let root = dir.join("kafka");
        fs::create_dir_all(&root).map_err(Error::io("make", &root))?;
        let root = root.canonicalize().map_err(Error::io("find", &root))?;
        Ok(Home { log: root.join("log"), root, throwaway })
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn port_file(&self) -> PathBuf {
        self.root.join("port")
    }

    fn noted_pid(&self) -> Option<u32> {
        fs::read_to_string(self.root.join("pid")).ok()?.trim().parse().ok()
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        Ok(path)
    }

    /// Formatted under another name, so that a crash half way leaves nothing half made behind.
    async fn format(&self, java: &Path, jars: &Path) -> Result<(), Error> {
        let made = self.root.join("data.new");
        if made.exists() {
            fs::remove_dir_all(&made).map_err(Error::io("remove", &made))?;
        }
        let properties = self.write("format.properties", &properties(1, 1, 2, &made))?;
        let id = cluster_id(rand::random());
        let plan =
            self.java(java, jars).args(["-Xmx128m", "kafka.tools.StorageTool", "format", "-t", id.as_str(), "-c"]).arg(&properties);
        watch::run("formatting Kafka's storage", &plan, FORMAT_WITHIN).await?;
        fs::remove_file(&properties).map_err(Error::io("remove", &properties))?;
        fs::rename(&made, self.data()).map_err(Error::io("move into place", &made))
    }

    fn java(&self, java: &Path, jars: &Path) -> Plan {
        Plan::new(java, &self.root, &self.log)
            .arg("-cp")
            .arg(jars.join("*"))
            // One small node: the serial collector takes the least memory, and no threads from the services beside it.
            .args(["-XX:+UseSerialGC", "-Djava.awt.headless=true"])
            .arg(format!("-Dlog4j2.configurationFile={}", self.root.join("log4j2.properties").display()))
    }
}

/// `None` when it takes connections, its last words when it ended instead.
async fn ready_or_ended(server: &Watched, home: &Home, port: u16, before: u64) -> Result<Option<String>, Error> {
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline {
        let said = log::since(&home.log, before);
        if server.ended().is_some() {
            return Ok(Some(log::since(&home.log, before)));
        }
        if said.contains(STARTED) && ports::answers(port) {
            return Ok(None);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(late(home))
}

fn late(home: &Home) -> Error {
    Error::Late { what: "Kafka", seconds: START_WITHIN.as_secs(), log: home.log.clone() }
}

/// 128 bits in base64url, as Kafka prints ids. The first bit stays 0, so that it does not begin with the `-` of an option.
fn cluster_id(random: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = random >> 1;
    let place = |at: u32| if at < 21 { bits >> (122 - 6 * at) } else { bits << 4 };
    (0..22).map(|at| char::from(ALPHABET[(place(at) & 63) as usize])).collect()
}

/// One node that keeps everything: retention is not what a private broker should decide, and nobody else answers for a topic.
fn properties(port: u16, advertised_port: u16, controller_port: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={}
num.partitions=4
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.retention.ms=-1
log.retention.bytes=-1
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.threads=1
num.network.threads=2
num.io.threads=4
",
        data.display()
    )
}

/// Warnings, and the one line that says that it is up.
const LOG4J: &str = "status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %m (%c)%n%ex
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
";

/// One private Kafka for a whole test binary, started by whoever asks first. It ends with the process, and its files go too.
///
/// # Panics
/// When Kafka cannot be started: a test cannot go on without it.
pub async fn shared_for_tests() -> &'static Kafka {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
            match Kafka::start_throwaway(&dir).await {
                Ok(kafka) => kafka,
                Err(error) => panic!("no Kafka for the tests: {error}"),
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_kafka_makes_them() {
        assert_eq!(cluster_id(0), "A".repeat(22));
        assert_eq!(cluster_id(u128::MAX), format!("f{}w", "_".repeat(20)));
        assert_eq!(cluster_id(2), format!("{}Q", "A".repeat(21)));
    }

    /// Two starts: the second finds the first one's data after a kill, on the same port.
    #[tokio::test]
    async fn goes_on_after_a_kill() {
        let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
        let first = Kafka::start(&dir).await.unwrap();
        let brokers = first.brokers();
        first.signal(process::Signal::Kill).unwrap();
        assert_eq!(first.end().await.code(), Some(128 + 9));
        let second = Kafka::start_throwaway(&dir).await.unwrap();
        assert_eq!(second.brokers(), brokers);
        second.stop().await.unwrap();
        assert!(!dir.exists());
    }
}
