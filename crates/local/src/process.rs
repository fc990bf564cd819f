//! Processes by their id: alive or not, signals, and who they run as.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Error, watch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Quit,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Quit => "QUIT",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// Through the shell's own `kill`: the system call is not in std, and this crate has no unsafe code.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let script = format!("kill -s {} {pid}", signal.name());
    let done = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if done.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned())) }
}

/// A zombie counts as gone.
pub fn is_alive(pid: u32) -> bool {
    match state_and_parent(pid) {
        Some((state, _)) => state != 'Z' && state != 'X',
        None if Path::new("/proc/self/stat").exists() => false,
        None => {
            Command::new("sh").args(["-c", &format!("kill -0 {pid} 2>/dev/null")]).status().is_ok_and(|status| status.success())
        }
    }
}

/// From /proc/PID/stat, whose second field is a name in brackets that may hold anything.
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// All process ids of this machine; empty where there is no /proc.
pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The living processes of that program name, or watchers about to start one, whose working directory this is.
fn working_in(dir: &Path, name: &str) -> Option<u32> {
    let dir = dir.canonicalize().ok()?;
    let works_here = |pid: &u32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).map(|text| String::from_utf8_lossy(&text).into_owned());
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir)
            && (read("comm").is_ok_and(|comm| comm.trim() == name) || read("cmdline").is_ok_and(|line| line.contains(watch::NAME)))
            && is_alive(*pid)
    };
    all().into_iter().find(works_here)
}

/// Waits for the server that a killed predecessor left ending. Two Kafkas in one directory would spoil it, for its own lock comes
/// too late. Where there is no /proc the process id it noted has to do.
pub(crate) async fn wait_until_gone(
    what: &'static str,
    name: &str,
    dir: &Path,
    noted: Option<u32>,
    patience: Duration,
) -> Result<(), Error> {
    let started = Instant::now();
    let has_proc = Path::new("/proc/self").exists();
    let mut told = false;
    loop {
        let found = if has_proc { working_in(dir, name) } else { noted.filter(|pid| is_alive(*pid)) };
        let Some(pid) = found else { return Ok(()) };
        if started.elapsed() >= patience {
            return Err(Error::StillEnding { what, dir: dir.to_owned(), pid, seconds: patience.as_secs() });
        }
        if !told {
            tracing::info!(pid, "{what} of an earlier run is still ending; waiting for it");
            told = true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whom a server runs as when we are root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// The first of the names that /etc/passwd knows.
    pub fn find(names: &[&str]) -> Option<User> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        names.iter().find_map(|name| passwd.lines().find_map(|line| User::parse(line, name)))
    }

    fn parse(line: &str, name: &str) -> Option<User> {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name: name.to_owned(), uid, gid })
    }

    /// The directory on the way to `path` that this user may not enter.
    pub(crate) fn kept_out_at(&self, path: &Path) -> Option<PathBuf> {
        let enters = |dir: &&Path| {
            fs::metadata(dir).is_ok_and(|found| {
                let bit = if found.uid() == self.uid {
                    0o100
                } else if found.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                found.mode() & bit != 0
            })
        };
        path.ancestors().filter(|dir| !dir.as_os_str().is_empty()).find(|dir| !enters(dir)).map(Path::to_owned)
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    effective_uid() == Some(0)
}

fn effective_uid() -> Option<u32> {
    match fs::read_to_string("/proc/self/status") {
        Ok(status) => status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()),
        // No /proc: not Linux.
        Err(_) => String::from_utf8(Command::new("id").arg("-u").output().ok()?.stdout).ok()?.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_alive_and_our_parent_is_known() {
        let me = std::process::id();
        assert!(is_alive(me));
        assert!(state_and_parent(me).is_some_and(|(_, parent)| parent > 0));
        assert!(!is_alive(u32::MAX - 1));
        assert!(all().contains(&me));
    }

    #[test]
    fn reads_a_line_of_passwd() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let found = User::parse(line, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert_eq!(User::parse(line, "post"), None);
    }

    #[test]
    fn finds_the_closed_door() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = User { name: "stranger".to_owned(), uid: 4_000_000, gid: 4_000_000 };
        assert_eq!(stranger.kept_out_at(&inner), Some(dir.path().join("a")));
    }
}
