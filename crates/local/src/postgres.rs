//! A private Postgres cluster in a directory: made when missing, started, stopped with us.

mod home;
mod programs;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::OnceCell, time::sleep};

use crate::{
    Error, log, ports, process, program,
    watch::{self, Watched},
};
use home::{Home, SUPERUSER};
use programs::Programs;

const START_WITHIN: Duration = Duration::from_secs(30);
/// After a crash it first repeats up to `max_wal_size` of work.
const RECOVER_WITHIN: Duration = Duration::from_secs(600);
/// Fast, immediate and kill have ten seconds each.
const STOP_WITHIN: Duration = Duration::from_secs(35);
const CREATE_WITHIN: Duration = Duration::from_secs(60);

/// For the value of a query parameter.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Where this machine's Postgres server programs are.
pub fn programs() -> Result<PathBuf, Error> {
    Programs::find(None, Path::new("")).map(|programs| programs.path(""))
}

#[derive(Debug, Clone)]
pub struct Options {
    pub shared_buffers_mb: u32,
    pub connections_max: u32,
    /// Off: a loss of power or a crash of the kernel may lose data, a crash of any program does not.
    pub durable: bool,
    /// `DIR/postgres` is removed when the server is stopped or we end (not when it dies), and DIR too when it is empty then.
    pub throwaway: bool,
    /// More server settings, later ones win.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options { shared_buffers_mb: 256, connections_max: 200, durable: true, throwaway: false, settings: Vec::new() }
    }
}

impl Options {
    pub fn for_tests() -> Options {
        Options { shared_buffers_mb: 128, connections_max: 400, durable: false, throwaway: true, ..Options::default() }
    }
}

/// A running cluster. Dropping it begins a fast shutdown; [`Postgres::stop`] also waits for it.
pub struct Postgres {
    server: Watched,
    programs: Programs,
    home: Home,
    port: u16,
    password: String,
}

/// Without the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("pid", &self.pid())
            .field("port", &self.port)
            .field("log", &self.home.log)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Starts the cluster kept in `dir`/postgres, on the port it had last time when that is free.
    /// `dir` has one owner at a time: see [`crate::DirLock`].
    pub async fn start(dir: &Path, options: Options) -> Result<Postgres, Error> {
        let home = Home::prepare(dir, options.throwaway)?;
        process::wait_until_gone("Postgres", "postgres", &home.data, home.postmaster(), START_WITHIN).await?;
        let programs = Programs::find(home.made_by(), &home.data)?;
        let password = home.password()?;
        match home.made_by() {
            Some(_) => home.give_away(&home.data)?,
            None => home.initialise(&programs, &password, &options).await?,
        }
        let compression = wal_compression(&home, &programs).await;
        let deadline = Instant::now() + START_WITHIN;
        let mut port = ports::remembered(&home.port)?;
        loop {
            let before = log::size(&home.log);
            let server = Watched::start(&home.plan(&programs, port, compression, &options))?;
            let Some(said) = ready_or_ended(&server, &home, before).await? else {
                ports::remember(&home.port, port)?;
                return Ok(Postgres { server, programs, home, port, password });
            };
            if ports::taken(&said) {
                port = ports::free()?;
            } else if !still_ending(&said) {
                return Err(Error::Failed { what: "Postgres".to_owned(), why: log::last_words(&said), log: home.log });
            }
            if Instant::now() >= deadline {
                return Err(Error::Late { what: "Postgres", seconds: START_WITHIN.as_secs(), log: home.log });
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The same over the server's socket, where it has one: cheaper than loopback, since nothing passes through the network stack. Only for
    /// processes of this user, or of root.
    pub fn socket_url(&self, database: &str) -> String {
        match self.home.socket_dir() {
            Some(dir) => format!("{}?host={}", self.url(database), percent_encoded(&dir.to_string_lossy())),
            None => self.url(database),
        }
    }

    /// Does nothing when the database is there already.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        self.createdb(name, None).await
    }

    /// A copy of another database, which nobody may be connected to meanwhile.
    pub async fn create_database_from(&self, name: &str, template: &str) -> Result<(), Error> {
        self.createdb(name, Some(template)).await
    }

    /// A database of a name nobody else has, and its URL.
    pub async fn fresh_database(&self, prefix: &str) -> Result<String, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.create_database(&name).await?;
        Ok(self.url(&name))
    }

    async fn createdb(&self, name: &str, template: Option<&str>) -> Result<(), Error> {
        let refused = |why: String| Error::Database { name: name.to_owned(), why };
        if !is_plain(name) || template.is_some_and(|template| !is_plain(template)) {
            return Err(refused(
                "a name is made of a-z, 0-9 and _, begins with a letter, and has 63 characters at most".to_owned(),
            ));
        }
        let mut command = Command::new(self.programs.path("createdb"));
        // The caller's own PGSSLMODE, PGSERVICE or PGOPTIONS mean another server.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(variable);
        }
        command.env("PGPASSWORD", &self.password).env("LC_ALL", "C");
        command.args(["--no-password", "--host=127.0.0.1", &format!("--port={}", self.port), &format!("--username={SUPERUSER}")]);
        if let Some(template) = template {
            command.arg(format!("--template={template}"));
        }
        command.arg(name);
        let done = program::run(command, CREATE_WITHIN).await?;
        let said = String::from_utf8_lossy(&done.stderr);
        // The second wording is that of a race between two of us.
        let exists = said.contains("already exists") || said.contains("pg_database_datname_index");
        if done.status.success() || exists { Ok(()) } else { Err(refused(log::last_words(&said))) }
    }

    /// The postmaster.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn log(&self) -> PathBuf {
        self.home.log.clone()
    }

    /// Waits for the server's end, whoever causes it.
    pub async fn end(&self) -> ExitStatus {
        self.server.end().await
    }

    /// A signal to the postmaster alone, as a test of its death sends it.
    pub fn signal(&self, signal: process::Signal) -> std::io::Result<()> {
        self.server.signal(signal)
    }

    /// Fast shutdown: open transactions are rolled back.
    pub async fn stop(self) -> Result<(), Error> {
        self.server.stop(STOP_WITHIN).await?;
        Ok(())
    }
}

/// lz4 halves the WAL at little cost, but not every build has it.
async fn wal_compression(home: &Home, programs: &Programs) -> &'static str {
    let mut plan = watch::Plan::new(programs.path("postgres"), &home.data, Path::new("/dev/null"));
    plan = plan.args(["-C", "wal_compression", "-c", "wal_compression=lz4", "-D"]).arg(&home.data);
    plan.user.clone_from(&home.user);
    if watch::run("postgres -C", &plan, START_WITHIN).await.is_ok() { "lz4" } else { "on" }
}

/// `None` when it takes connections, its last words when it ended instead.
async fn ready_or_ended(server: &Watched, home: &Home, before: u64) -> Result<Option<String>, Error> {
    let started = Instant::now();
    loop {
        if server.ended().is_some() {
            return Ok(Some(log::since(&home.log, before)));
        }
        if home.is_ready(server.pid()) {
            return Ok(None);
        }
        let waited = started.elapsed();
        if waited >= START_WITHIN {
            let recovers = log::since(&home.log, before).contains("recovery in progress");
            let patience = if recovers { RECOVER_WITHIN } else { START_WITHIN };
            if waited >= patience {
                return Err(Error::Late { what: "Postgres", seconds: patience.as_secs(), log: home.log.clone() });
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Processes of a killed predecessor are still there.
fn still_ending(said: &str) -> bool {
    ["is still in use", "\"postmaster.pid\" already exists", "still running"].iter().any(|words| said.contains(words))
}

fn is_plain(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// One private Postgres for a whole test binary, started by whoever asks first. It ends with the process, and its files go too.
///
/// # Panics
/// When Postgres cannot be started: a test cannot go on without it.
pub async fn shared_for_tests() -> &'static Postgres {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
            match Postgres::start(&dir, Options::for_tests()).await {
                Ok(postgres) => postgres,
                Err(error) => panic!("no Postgres for the tests: {error}"),
            }
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::until;

    #[tokio::test]
    async fn goes_on_after_a_kill_with_the_same_port_and_password() {
        let dir = std::env::temp_dir().join(format!("settle-test-{:016x}", rand::random::<u64>()));
        let kept = Options { throwaway: false, ..Options::for_tests() };
        let first = Postgres::start(&dir, kept.clone()).await.unwrap();
        first.create_database("kept").await.unwrap();
        first.create_database("kept").await.unwrap();
        let url = first.url("kept");
        first.signal(process::Signal::Kill).unwrap();
        assert_eq!(first.end().await.code(), Some(128 + 9));
        let second = Postgres::start(&dir, Options { throwaway: true, ..kept }).await.unwrap();
        assert_eq!(second.url("kept"), url);
        second.create_database_from("copy", "kept").await.unwrap();
        let pid = second.pid();
        second.stop().await.unwrap();
        assert!(!process::is_alive(pid));
        until("the directory to be gone", Duration::from_secs(10), || async { (!dir.exists()).then_some(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn shared_and_fresh() {
        let postgres = shared_for_tests().await;
        let one = postgres.fresh_database("t").await.unwrap();
        let two = postgres.fresh_database("t").await.unwrap();
        assert_ne!(one, two);
        assert!(postgres.create_database("Robert'); drop").await.is_err());
    }
}
