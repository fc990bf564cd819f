//! Children that end when we end, also by SIGKILL.
//!
//! A server is not our child but the child of a small shell script, the watcher (`watch.sh`), whose standard input is a pipe
//! that only we hold open. When we drop it, or the kernel closes it because we are gone, the watcher reads end-of-file, asks the
//! server to stop, asks harder after a while, waits for it and exits with its status. When the server ends by itself the watcher
//! ends too, and we notice. So nobody needs `prctl`, and no signal of ours can be lost with us.
//!
//! The watcher is a process group of its own: Ctrl-C at a terminal reaches us alone, and we stop the servers in order. A
//! SIGTERM sent to everything at once (systemd, `docker stop`) does not end the watcher before its server.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Error as IoError},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    Error, log,
    process::{self, Signal, User},
    wait::Timeout,
};

const SCRIPT: &str = include_str!("watch.sh");
/// How a watcher calls itself in the list of processes.
pub(crate) const NAME: &str = "settle-watch";

/// What to run and how to end it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// Working directory: the user below must be able to enter it.
    pub dir: PathBuf,
    /// Standard output and error, appended.
    pub log: PathBuf,
    /// Another user than ours; only root can say this.
    pub user: Option<User>,
    /// Sent one after the other, each `grace` after the one before, until the server is gone.
    pub stop_signals: Vec<Signal>,
    pub grace: Duration,
    /// For throwaway servers: removed when the server has ended because we let go of it, not when it died by itself and may be
    /// started again. The directory above goes too when it is empty then.
    pub remove_after: Option<PathBuf>,
}

impl Plan {
    /// Stopped by SIGTERM, and by SIGKILL ten seconds later.
    pub fn new(program: impl Into<PathBuf>, dir: &Path, log: &Path) -> Plan {
        Plan {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: dir.to_owned(),
            log: log.to_owned(),
            user: None,
            stop_signals: vec![Signal::Terminate, Signal::Kill],
            grace: Duration::from_secs(10),
            remove_after: None,
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Plan {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Plan {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn command(&self) -> Result<Command, Error> {
        let signals: Vec<&str> = self.stop_signals.iter().map(|signal| signal.name()).collect();
        let tries = (self.grace.as_millis() / 100).max(1);
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, NAME, &signals.join(" "), &tries.to_string()])
            .arg(self.remove_after.as_deref().unwrap_or(Path::new("")))
            .arg(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log::open(&self.log)?);
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        Ok(command)
    }
}

/// A running server under its watcher. Dropping it begins the stop; [`Watched::stop`] also waits for it.
#[derive(Debug)]
pub struct Watched {
    pid: u32,
    lifeline: Mutex<Option<ChildStdin>>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Watched {
    pub fn start(plan: &Plan) -> Result<Watched, Error> {
        let name = plan.program.display().to_string();
        let mut watcher = plan.command()?.spawn().map_err(Error::spawn(&name))?;
        let lifeline = watcher.stdin.take();
        let pid = first_line(&mut watcher).map_err(Error::spawn(&name))?;
        let (tell, ended) = watch::channel(None);
        // A thread and not a task: the handle outlives the runtime it was made in, as tests with one runtime each need it.
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                // An error here means that somebody else took the exit status: as good as ended.
                tell.send_replace(Some(watcher.wait().unwrap_or_default()));
            })
            .map_err(Error::spawn(&name))?;
        Ok(Watched { pid, lifeline: Mutex::new(lifeline), ended })
    }

    /// The server itself, not its watcher.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How the server ended, if it has: 128 + n as exit code when signal n ended it.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Waits for the end, whoever causes it.
    pub async fn end(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            Err(_) => ExitStatus::default(),
        }
    }

    /// Begins the stop without waiting for it.
    pub fn release(&self) {
        drop(self.lifeline.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub async fn stop(&self, patience: Duration) -> Result<ExitStatus, Timeout> {
        self.release();
        let late = |_| Timeout { what: format!("process {} to end", self.pid), waited: patience };
        tokio::time::timeout(patience, self.end()).await.map_err(late)
    }

    /// Sends the server itself a signal, as a test of its death does.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        process::signal(self.pid, signal)
    }
}

/// The watcher's only words: the server's process id.
fn first_line(watcher: &mut Child) -> std::io::Result<u32> {
    let mut line = String::new();
    if let Some(stdout) = watcher.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    line.trim().parse().map_err(|_| IoError::other("its watcher (sh) did not start, see the log"))
}

/// Runs a program to its end under a watcher: even this one does not outlive us.
pub(crate) async fn run(what: &str, plan: &Plan, patience: Duration) -> Result<(), Error> {
    let offset = log::size(&plan.log);
    let watched = Watched::start(plan)?;
    let failed = |why: String| Error::Failed { what: what.to_owned(), why, log: plan.log.clone() };
    match tokio::time::timeout(patience, watched.end()).await {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(failed(log::last_words(&log::since(&plan.log, offset)))),
        Err(_) => Err(failed(format!("not done after {} s", patience.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::until;

    const SOON: Duration = Duration::from_secs(10);

    fn sleeper(dir: &Path) -> Plan {
        Plan::new("sleep", dir, &dir.join("log")).arg("100")
    }

    async fn gone(pid: u32) {
        until("the server to be gone", SOON, || async { (!process::is_alive(pid)).then_some(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn a_dropped_handle_ends_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let watched = Watched::start(&sleeper(dir.path())).unwrap();
        let pid = watched.pid();
        assert!(process::is_alive(pid));
        assert_eq!(watched.ended(), None);
        drop(watched);
        gone(pid).await;
    }

    #[tokio::test]
    async fn a_killed_server_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let watched = Watched::start(&sleeper(dir.path())).unwrap();
        watched.signal(Signal::Kill).unwrap();
        let status = tokio::time::timeout(SOON, watched.end()).await.unwrap();
        assert_eq!(status.code(), Some(128 + 9));
        assert_eq!(watched.ended(), Some(status));
        gone(watched.pid()).await;
    }

    #[tokio::test]
    async fn a_deaf_server_is_killed_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut plan = Plan::new("sh", dir.path(), &log).args(["-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]);
        plan.grace = Duration::from_millis(300);
        let watched = Watched::start(&plan).unwrap();
        until("deafness", SOON, || async { log::since(&log, 0).contains("deaf").then_some(()) }).await.unwrap();
        assert_eq!(watched.stop(SOON).await.unwrap().code(), Some(128 + 9));
    }

    #[tokio::test]
    async fn a_throwaway_directory_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("above/home");
        std::fs::create_dir_all(&home).unwrap();
        let mut plan = sleeper(&home);
        plan.remove_after = Some(home.clone());
        let dies = Watched::start(&plan).unwrap();
        dies.signal(Signal::Kill).unwrap();
        dies.end().await;
        assert!(home.exists());
        let stopped = Watched::start(&plan).unwrap();
        stopped.stop(SOON).await.unwrap();
        assert!(!dir.path().join("above").exists());
    }

    #[tokio::test]
    async fn what_cannot_run_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new("/no/such/program", dir.path(), &dir.path().join("log"));
        let error = run("the program", &plan, SOON).await.unwrap_err();
        assert!(error.to_string().contains("no/such/program"), "{error}");
    }
}
