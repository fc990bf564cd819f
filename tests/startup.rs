//! A start that cannot work says why in one line, ends with an exit code that is not 0, and leaves nothing behind.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use kit::settings::BusKind;
use local::Program;
use tokio::process::Command;

use crate::{
    harness::{data_dir, run},
    process::{Process, binary, working_in},
};

const ENDS_WITHIN: Duration = Duration::from_secs(60);
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// `settle` with these arguments, and nothing in its environment that the tests' has by chance.
pub(crate) fn settle(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["KAFKA_", "OTEL_", "SETTLE_"].iter().any(|of| name.starts_with(of)) && name != "SETTLE_CACHE" {
            command.env_remove(name.as_ref());
        }
    }
    command.args(args).env("RUST_LOG", "warn");
    command
}

/// `settle up` on free ports.
fn up(data: &Path, ready: &Path) -> Command {
    let mut command = settle(&["up", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.arg("--data").arg(data).arg("--ready-file").arg(ready);
    command
}

pub(crate) async fn end_of(command: Command) -> Output {
    local::program::run(command, ENDS_WITHIN).await.expect("it ends")
}

/// It failed, and said why in one line that has these words.
pub(crate) fn assert_one_line(what: &str, ended: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code().is_some_and(|code| code != 0), "{what}: {} {said}", ended.status);
    assert!(ended.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&ended.stdout));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{what} says\n{said}");
    assert!(lines[0].starts_with("settle: "), "{what} says {said}");
    for word in words {
        assert!(said.contains(word), "{what} does not say {word:?} but {said}");
    }
}

async fn assert_nothing_left(what: &str, dir: &Path) {
    let gone = local::until("the end of all", GONE_WITHIN, || async { working_in(dir).is_empty().then_some(()) });
    assert!(gone.await.is_ok(), "{what} left running: {:#?}", working_in(dir));
}

/// Nothing runs, and nobody was told that it is ready.
async fn assert_nothing_begun(what: &str, dir: &Path) {
    assert_nothing_left(what, dir).await;
    for ready in [dir.join("ready.json"), dir.join("data/ready.json")] {
        assert!(!ready.exists(), "{what} wrote {}", ready.display());
    }
}

#[test]
fn addresses_that_cannot_be_listened_on() {
    run(async {
        let dir = data_dir().expect("a directory");
        let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = holder.local_addr().expect("an address").to_string();
        for (flag, of) in [("--grpc", "gRPC"), ("--http", "REST"), ("--admin", "admin")] {
            let mut args = vec!["up"];
            for other in ["--grpc", "--http", "--admin"] {
                args.extend([other, if other == flag { taken.as_str() } else { "127.0.0.1:0" }]);
            }
            let mut command = settle(&args);
            command.arg("--data").arg(dir.path().join("data")).arg("--ready-file").arg(dir.path().join("ready.json"));
            assert_one_line(flag, &end_of(command).await, &["cannot listen on", &taken, of]);
            assert_nothing_begun(flag, dir.path()).await;
        }
        let mut command = settle(&["up", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--grpc", "nonsense"]);
        command.arg("--data").arg(dir.path().join("data"));
        assert_one_line("no address", &end_of(command).await, &["nonsense", "gRPC"]);
        assert_nothing_begun("no address", dir.path()).await;
    });
}

#[test]
fn directories_that_cannot_be_written() {
    run(async {
        let dir = data_dir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        let ready = dir.path().join("ready.json");
        // Root may write anywhere, but not below a file.
        for (what, data, ready) in [
            ("a file as directory", file.clone(), ready.clone()),
            ("a directory below a file", file.join("data"), ready),
            ("a ready file below a file", dir.path().join("data"), file.join("ready.json")),
            ("a ready file that is a directory", dir.path().join("data"), dir.path().to_owned()),
        ] {
            let ended = end_of(up(&data, &ready)).await;
            assert_one_line(what, &ended, &[dir.path().to_str().expect("a name")]);
            assert_nothing_begun(what, dir.path()).await;
        }
    });
}

#[test]
fn settings_that_are_none() {
    run(async {
        let dir = data_dir().expect("a directory");
        let missing = dir.path().join("missing").display().to_string();
        for (name, value) in [
            ("SETTLE_BUS", "rabbit"),
            ("SETTLE_PARTITIONS", "0"),
            ("SETTLE_PARTITIONS", "four"),
            ("SETTLE_PARTITIONS", "1025"),
            ("SETTLE_DATABASE_CONNECTIONS_MAX", "-1"),
            ("SETTLE_DRAIN_MS", "soon"),
            ("SETTLE_BATCH_ROWS_MAX", "0"),
            ("SETTLE_CHECKOUT", "checkout-on-credit"),
            ("SETTLE_PARK_MAX", "none"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("SETTLE_SANDBOX_CHAOS", "silent=2"),
            ("SETTLE_PROVIDER_URL", "psp.example:443"),
            ("SETTLE_WEBHOOK_URL", "https://shop.example"),
            ("SETTLE_DRAIN_MS_FILE", missing.as_str()),
        ] {
            let mut command = up(&dir.path().join("data"), &dir.path().join("ready.json"));
            command.env(name, value);
            assert_one_line(name, &end_of(command).await, &[name, value]);
            assert_nothing_begun(name, dir.path()).await;
            assert!(!dir.path().join("data").exists(), "{name}: a data directory was made");

            let mut command = settle(&["serve", "order"]);
            command.env(name, value);
            assert_one_line(name, &end_of(command).await, &[name, value]);

            let mut command = settle(&["config", "--output", "json"]);
            command.env(name, value);
            let ended = end_of(command).await;
            assert!(!ended.status.success(), "{name}: config takes it");
        }
    });
}

#[test]
fn a_directory_that_is_in_use() {
    run(async {
        let dir = data_dir().expect("a directory");
        let first = Process::start(dir.path(), BusKind::Postgres, &[]).await.expect("it starts");
        let data = dir.path().join("data");
        let ready = fs::read(data.join("ready.json")).expect("it says so");
        let owner: serde_json::Value = serde_json::from_slice(&ready).expect("JSON");
        let second = end_of(up(&data, &dir.path().join("second.json"))).await;
        assert_one_line("a second one", &second, &["in use", &owner["pid"].to_string()]);
        assert!(!dir.path().join("second.json").exists());
        assert_eq!(fs::read(data.join("ready.json")).ok(), Some(ready), "the first one's word is gone");
        // The first one did not notice.
        let mut command = settle(&["orders", "list", "--data"]);
        command.arg(&data);
        assert!(end_of(command).await.status.success());
        first.stop().await.expect("it ends well");
        assert_nothing_left("the first one", dir.path()).await;
    });
}

/// URLs of all databases, at a port that nobody listens on.
fn unreachable(command: &mut Command) {
    let port = local::ports::free().expect("a port");
    for service in ["ORDER", "ORCHESTRATOR", "PAYMENT", "INVENTORY", "SHIPPING", "NOTIFICATION", "PROVIDER"] {
        command.env(format!("SETTLE_{service}_DATABASE_URL"), format!("postgres://settle:secret@127.0.0.1:{port}/settle"));
    }
    for addr in ["GRPC", "HTTP", "ADMIN"] {
        command.env(format!("SETTLE_{addr}_ADDR"), "127.0.0.1:0");
    }
}

#[test]
fn databases_that_do_not_answer() {
    run(async {
        for service in ["order", "payment"] {
            let mut command = settle(&["serve", service]);
            unreachable(&mut command);
            let begun = Instant::now();
            let ended = end_of(command).await;
            assert_one_line(service, &ended, &[service, "does not answer"]);
            assert!(!String::from_utf8_lossy(&ended.stderr).contains("secret"), "the password is told");
            // A database that starts beside it is waited for.
            assert!(begun.elapsed() >= Duration::from_secs(5), "it did not wait");
        }
        assert_one_line("no URL", &end_of(settle(&["serve", "order"])).await, &["SETTLE_", "_DATABASE_URL is not set"]);
        let mut command = settle(&["migrate"]);
        unreachable(&mut command);
        assert_one_line("migrate", &end_of(command).await, &["does not answer"]);
    });
}

#[test]
fn a_broker_that_does_not_answer() {
    run(async {
        let dir = data_dir().expect("a directory");
        let broker = format!("127.0.0.1:{}", local::ports::free().expect("a port"));
        let mut serve = settle(&["serve", "notification"]);
        unreachable(&mut serve);
        for (what, mut command) in [("serve", serve), ("up", up(&dir.path().join("data"), &dir.path().join("ready.json")))] {
            command.env("KAFKA_BROKERS", &broker);
            assert_one_line(what, &end_of(command).await, &["the broker does not answer", &broker]);
            assert_nothing_begun(what, dir.path()).await;
        }
        assert!(!dir.path().join("data/bus").exists(), "the directory remembers a bus it never had");
    });
}

#[test]
fn a_signal_before_it_is_ready() {
    run(async {
        let dir = data_dir().expect("a directory");
        let ready: PathBuf = dir.path().join("ready.json");
        let mut program = Program::start(up(&dir.path().join("data"), &ready)).expect("it starts");
        let begun = local::until("Postgres to be started", ENDS_WITHIN, || async {
            program.stderr().iter().any(|line| line.contains("starting Postgres")).then_some(())
        });
        begun.await.expect("it begins");
        let status = program.terminate(ENDS_WITHIN).await.expect("it ends");
        assert!(status.success(), "{status}: {:?}", program.stderr());
        assert_nothing_begun("the start", dir.path()).await;
    });
}
