//! The directory of a private cluster: data, log, port and password, and how it comes to be.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Options, programs::Programs};
use crate::{
    Error,
    process::{Signal, User, is_root},
    watch::{self, Plan},
};

const INITDB_WITHIN: Duration = Duration::from_secs(120);
pub(super) const SUPERUSER: &str = "settle";

/// `DIR/postgres`.
#[derive(Debug)]
pub(super) struct Home {
    root: PathBuf,
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) port: PathBuf,
    password: PathBuf,
    /// Postgres refuses to run as root.
    pub(super) user: Option<User>,
}

impl Home {
    pub(super) fn prepare(dir: &Path, throwaway: bool) -> Result<Home, Error> {
        let user = match is_root() {
            true => Some(User::find(&["postgres", "nobody"]).ok_or(Error::NoUser)?),
            false => None,
        };
        fs::create_dir_all(dir.join("postgres")).map_err(Error::io("make", dir))?;
        let dir = dir.canonicalize().map_err(Error::io("find", dir))?;
        let root = dir.join("postgres");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).map_err(Error::io("open to others", &root))?;
        if let Some(user) = &user {
            if throwaway {
                // Whoever removes it at the end is the watcher, and that runs as this user.
                for path in [&dir, &root] {
                    chown(path, Some(user.uid), Some(user.gid)).map_err(Error::io("give away", path))?;
                }
            }
            if let Some(closed) = user.kept_out_at(&root) {
                return Err(Error::DirClosed { dir: root, closed, user: user.name.clone() });
            }
        }
        let at = |name: &str| root.join(name);
        Ok(Home { data: at("data"), log: at("log"), port: at("port"), password: at("password"), user, root })
    }

    /// Which Postgres made the data, if there are any.
    pub(super) fn made_by(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// The superuser's password: made at the first start, kept in a file of mode 0600.
    pub(super) fn password(&self) -> Result<String, Error> {
        match fs::read_to_string(&self.password) {
            Ok(password) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { doing: "read", path: self.password.clone(), source }),
        }
        if self.made_by().is_some() {
            return Err(Error::PasswordLost { file: self.password.clone() });
        }
        let password = format!("{:032x}", rand::random::<u128>());
        write_secret(&self.password, &password, None)?;
        Ok(password)
    }

    /// Makes the cluster in a directory of another name, so that a crash half way leaves nothing half made behind.
    pub(super) async fn initialise(&self, programs: &Programs, password: &str, options: &Options) -> Result<(), Error> {
        self.clear_unfinished()?;
        let made = self.root.join(format!("data.new-{:08x}", rand::random::<u32>()));
        fs::create_dir(&made).map_err(Error::io("make", &made))?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o700)).map_err(Error::io("close to others", &made))?;
        self.give_away(&made)?;
        let password_file = self.root.join("password.initdb");
        write_secret(&password_file, password, self.user.as_ref())?;
        // The socket lies in the data directory, which is closed to others: whoever gets to it could read the files as well. A password there
        // would only cost each connection 4,096 rounds of SCRAM, in which sqlx gives way to all other tasks 800 times: seconds under load.
        let mut plan = Plan::new(programs.path("initdb"), &made, &self.log)
            .arg("-D")
            .arg(&made)
            .args(["--no-locale", "-E", "UTF8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"])
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pwfile")
            .arg(&password_file);
        if !options.durable {
            plan = plan.arg("--no-sync");
        }
        plan.env.push(("LC_ALL".into(), "C".into()));
        plan.user.clone_from(&self.user);
        let done = watch::run("initdb", &plan, INITDB_WITHIN).await;
        fs::remove_file(&password_file).map_err(Error::io("remove", &password_file))?;
        done?;
        fs::rename(&made, &self.data).map_err(Error::io("move into place", &made))
    }

    /// What a predecessor killed in the middle of `initialise` left.
    fn clear_unfinished(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.root).map_err(Error::io("read", &self.root))?.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with("data.new-") {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
        }
        match fs::remove_file(self.root.join("password.initdb")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &self.root)(error)),
            _ => Ok(()),
        }
    }

    /// Data that another user made, as after a start with `sudo`, become this user's.
    pub(super) fn give_away(&self, data: &Path) -> Result<(), Error> {
        match &self.user {
            Some(user) if fs::metadata(data).map_err(Error::io("find", data))?.uid() != user.uid => chown_all(data, user),
            _ => Ok(()),
        }
    }

    /// Who runs here, or ran when the machine went down.
    pub(super) fn postmaster(&self) -> Option<u32> {
        self.postmaster_pid_file()?.lines().next()?.trim().parse().ok()
    }

    /// The eighth line of postmaster.pid says whether it takes connections; it is what pg_ctl reads.
    pub(super) fn is_ready(&self, pid: u32) -> bool {
        let written = self.postmaster_pid_file().unwrap_or_default();
        self.postmaster() == Some(pid) && written.lines().nth(7).is_some_and(|status| status.trim() == "ready")
    }

    /// Where the server has its socket: beside its data, unless that path is longer than a socket's may be (107 bytes with the name).
    pub(super) fn socket_dir(&self) -> Option<&Path> {
        const DIR_BYTES_MAX: usize = 80;
        // A comma would be read as two directories.
        let plain = |path: &str| path.len() <= DIR_BYTES_MAX && !path.contains([',', '"']);
        self.data.to_str().filter(|path| plain(path)).map(|_| self.data.as_path())
    }

    fn postmaster_pid_file(&self) -> Option<String> {
        fs::read_to_string(self.data.join("postmaster.pid")).ok()
    }

    pub(super) fn plan(&self, programs: &Programs, port: u16, compression: &str, options: &Options) -> Plan {
        let on = if options.durable { "on" } else { "off" };
        let mut plan = Plan::new(programs.path("postgres"), &self.data, &self.log).arg("-D").arg(&self.data);
        let mut set = |name: &str, value: &str| plan.args.extend([OsString::from("-c"), OsString::from(format!("{name}={value}"))]);
        set("listen_addresses", "127.0.0.1");
        set("port", &port.to_string());
        set("unix_socket_directories", self.socket_dir().and_then(Path::to_str).unwrap_or_default());
        set("max_connections", &options.connections_max.to_string());
        set("shared_buffers", &format!("{}MB", options.shared_buffers_mb));
        set("fsync", on);
        set("full_page_writes", on);
        set("synchronous_commit", on);
        set("wal_compression", compression);
        set("update_process_title", "off");
        set("max_wal_size", "4GB");
        set("checkpoint_timeout", "15min");
        set("jit", "off");
        set("timezone", "UTC");
        set("log_checkpoints", "off");
        for (name, value) in &options.settings {
            set(name, value);
        }
        plan.user.clone_from(&self.user);
        // Fast, then immediate: the second needs a recovery at the next start, and loses nothing either.
        plan.stop_signals = vec![Signal::Interrupt, Signal::Quit, Signal::Kill];
        plan.grace = Duration::from_secs(10);
        plan.remove_after = options.throwaway.then(|| self.root.clone());
        plan
    }
}

fn write_secret(path: &Path, secret: &str, owner: Option<&User>) -> Result<(), Error> {
    let unfinished = path.with_extension("new");
    // A leftover might be readable by others.
    let _ = fs::remove_file(&unfinished);
    let mut file =
        fs::File::options().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(Error::io("write", &unfinished))?;
    io::Write::write_all(&mut file, secret.as_bytes()).map_err(Error::io("write", &unfinished))?;
    file.sync_all().map_err(Error::io("write", &unfinished))?;
    if let Some(user) = owner {
        chown(&unfinished, Some(user.uid), Some(user.gid)).map_err(Error::io("give away", &unfinished))?;
    }
    fs::rename(&unfinished, path).map_err(Error::io("write", path))
}

fn chown_all(path: &Path, user: &User) -> Result<(), Error> {
    lchown(path, Some(user.uid), Some(user.gid)).map_err(Error::io("give away", path))?;
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        for entry in fs::read_dir(path).map_err(Error::io("read", path))?.flatten() {
            chown_all(&entry.path(), user)?;
        }
    }
    Ok(())
}
