//! Programs run to their end, and programs that tests talk to and kill.

use std::{
    io,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use crate::{
    Error, log,
    process::{self, Signal},
    wait::Timeout,
};

/// Runs a program to its end and takes what it said. It is killed when it takes longer, or when the caller gives up.
pub async fn run(command: impl Into<Command>, patience: Duration) -> Result<Output, Error> {
    let mut command = command.into();
    let name = name_of(&command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    match timeout(patience, command.output()).await {
        Ok(output) => output.map_err(Error::spawn(name)),
        Err(_) => Err(Timeout { what: format!("{name} to end"), waited: patience }.into()),
    }
}

/// A program started by a test: its lines, its signals, its end. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    pid: u32,
    stdout: watch::Receiver<Vec<String>>,
    stderr: watch::Receiver<Vec<String>>,
}

impl Program {
    pub fn start(command: impl Into<Command>) -> Result<Program, Error> {
        let mut command = command.into();
        let name = name_of(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(Error::spawn(&name))?;
        let pid = child.id().ok_or_else(|| io::Error::other("it ended at once")).map_err(Error::spawn(&name))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Ok(Program { name, child, pid, stdout, stderr })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// All lines so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.borrow().clone()
    }

    pub fn stderr(&self) -> Vec<String> {
        self.stderr.borrow().clone()
    }

    /// The first line of standard output, of those so far and those to come, that is wanted.
    pub async fn line(&mut self, what: &str, patience: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, Error> {
        let mut lines = self.stdout.clone();
        let said = lines.wait_for(|lines| lines.iter().any(|line| wanted(line)));
        let found = match timeout(patience, said).await {
            Ok(Ok(lines)) => lines.iter().find(|line| wanted(line)).cloned(),
            Ok(Err(_)) => None,
            Err(_) => return Err(Timeout { what: format!("{} to say {what}", self.name), waited: patience }.into()),
        };
        match found {
            Some(line) => Ok(line),
            None => {
                let status = self.end(patience).await?;
                let mut last = self.stderr.clone();
                // Until its pipe is closed too, or a grandchild holds it open.
                let _ = timeout(Duration::from_secs(1), last.wait_for(|_| false)).await;
                let said = log::last_words(&self.stderr().join("\n"));
                Err(Error::Ended { program: self.name.clone(), status: status.to_string(), what: what.to_owned(), said })
            }
        }
    }

    /// To this process alone, by its id; not to the processes it started.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        process::signal(self.pid, signal)
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<ExitStatus, Error> {
        // It fails only for a program that has ended already.
        let _ = self.child.start_kill();
        self.end(Duration::from_secs(10)).await
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self, patience: Duration) -> Result<ExitStatus, Error> {
        self.signal(Signal::Terminate).map_err(Error::spawn(&self.name))?;
        self.end(patience).await
    }

    /// Waits for the end, whoever causes it.
    pub async fn end(&mut self, patience: Duration) -> Result<ExitStatus, Error> {
        match timeout(patience, self.child.wait()).await {
            Ok(status) => status.map_err(Error::spawn(&self.name)),
            Err(_) => Err(Timeout { what: format!("{} to end", self.name), waited: patience }.into()),
        }
    }
}

fn name_of(command: &Command) -> String {
    command.as_std().get_program().to_string_lossy().into_owned()
}

/// Reads lines until the pipe ends, so that the program never waits for a reader.
fn collect(from: Option<impl AsyncRead + Unpin + Send + 'static>) -> watch::Receiver<Vec<String>> {
    let (tell, lines) = watch::channel(Vec::new());
    if let Some(from) = from {
        tokio::spawn(async move {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                tell.send_modify(|lines| lines.push(text));
                line.clear();
            }
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn takes_what_was_said() {
        let output = run(shell("echo out; echo err >&2; exit 3"), SOON).await.unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
        assert!(run(shell("sleep 100"), Duration::from_millis(50)).await.is_err());
    }

    #[tokio::test]
    async fn finds_a_line_and_kills_by_id() {
        let mut program = Program::start(shell("echo one; echo two; exec sleep 100")).unwrap();
        assert_eq!(program.line("two", SOON, |line| line == "two").await.unwrap(), "two");
        assert!(process::is_alive(program.pid()));
        assert!(!program.kill().await.unwrap().success());
        assert!(!process::is_alive(program.pid()));
    }

    #[tokio::test]
    async fn an_early_end_tells_why() {
        let mut program = Program::start(shell("echo no room >&2; exit 4")).unwrap();
        let error = program.line("ready", SOON, |line| line == "ready").await.unwrap_err().to_string();
        assert!(error.contains("no room") && error.contains('4'), "{error}");
    }
}
