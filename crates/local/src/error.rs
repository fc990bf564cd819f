use std::{
    io,
    path::{Path, PathBuf},
};

use crate::wait::Timeout;

/// What went wrong with another program, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "Postgres is not installed (no initdb, postgres and createdb on PATH, in /usr/lib/postgresql, /usr/pgsql-* or Homebrew): \
         run `apt-get install postgresql` on Debian, `brew install postgresql` on macOS"
    )]
    PostgresMissing,
    #[error("{dir} was made by Postgres {has} but only {found} is installed: install Postgres {has} or choose another directory")]
    PostgresVersion { dir: PathBuf, has: u32, found: u32 },
    #[error(
        "{file} is lost but the Postgres data beside it is there: put the file back, or move the directory away to start afresh"
    )]
    PasswordLost { file: PathBuf },
    #[error(
        "Postgres cannot run as root, and there is no user `postgres` or `nobody` to run it as: make one, or start as another user"
    )]
    NoUser,
    #[error(
        "Postgres runs as user {user}, who may not enter {closed} on the way to {dir}: choose another directory, or chmod o+x it"
    )]
    DirClosed { dir: PathBuf, closed: PathBuf, user: String },
    #[error(
        "Java is not installed, and a local Kafka needs Java 17: run `apt-get install openjdk-17-jre-headless`, or set KAFKA_BROKERS"
    )]
    JavaMissing,
    #[error("{java} is Java {found}, and a local Kafka needs 17 or newer: install that, or set JAVA_HOME or KAFKA_BROKERS")]
    JavaTooOld { java: PathBuf, found: u32 },
    #[error(
        "Maven is not installed, and the first local Kafka fetches its jars with it: run `apt-get install maven`, or set KAFKA_BROKERS"
    )]
    MavenMissing,
    #[error("no directory to keep data in: neither SETTLE_DATA nor XDG_DATA_HOME nor HOME is set; set one")]
    NoHome,
    #[error("{dir} is in use by {}: stop that one, or choose another directory", holder(.pid))]
    AlreadyRunning { dir: PathBuf, pid: Option<u32> },
    #[error("{what} of an earlier run still works in {dir} (pid {pid}) after {seconds} s: stop it and try again")]
    StillEnding { what: &'static str, dir: PathBuf, pid: u32, seconds: u64 },
    #[error("{what} failed, see {log}: {why}")]
    Failed { what: String, why: String, log: PathBuf },
    #[error("{what} was not ready after {seconds} s, see {log}")]
    Late { what: &'static str, seconds: u64, log: PathBuf },
    #[error("database {name:?}: {why}")]
    Database { name: String, why: String },
    #[error("no free port on 127.0.0.1: {0}")]
    NoPort(io::Error),
    #[error("cannot run {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("cannot {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{program} ended ({status}) before {what}; it said: {said}")]
    Ended { program: String, status: String, what: String, said: String },
    #[error(transparent)]
    Timeout(#[from] Timeout),
}

impl Error {
    /// `.map_err(Error::io("write", path))`
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { doing, path: path.to_owned(), source }
    }

    pub(crate) fn spawn(program: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Spawn { program: program.into(), source }
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "a running settle".to_owned(), |pid| format!("a running settle (pid {pid})"))
}
