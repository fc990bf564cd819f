//! Clients in other languages, over stubs generated from the protos.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::harness::{self, Bus};

const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_python_client_places_and_watches_an_order() {
    harness::run(async {
        let python = python().await;
        let gen_dir = directory().join("gen");
        generate(&python, &gen_dir).await;

        let stage = harness::platform(Bus::Postgres).await;
        let client = async |arguments: &[&str]| {
            let mut command = Command::new(&python);
            command.arg(directory().join("create_and_watch.py")).args(["--target", &stage.grpc]).args(arguments);
            run(command).await
        };
        let confirmed = client(&["--key", "python-1"]).await;
        let told = said(&confirmed);
        assert_eq!(confirmed.status.code(), Some(0), "{told}");
        for expected in
            ["OrderCreated", "PaymentSucceeded", "InventoryReserved", "ShippingScheduled", "OrderCompleted", "CONFIRMED 3000 USD"]
        {
            assert!(told.contains(expected), "{expected} is missing in {told}");
        }
        let again = client(&["--key", "python-1"]).await;
        assert_eq!(first_line(&again), first_line(&confirmed), "the same key made another order");

        let declined = client(&["--payment-token", "tok_declined"]).await;
        assert_eq!(declined.status.code(), Some(1), "{}", said(&declined));
        assert!(said(&declined).contains("PaymentFailed CARD_DECLINED"), "{}", said(&declined));
        let refused = client(&["--quantity", "0"]).await;
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains("INVALID_ARGUMENT: items[0].quantity"), "{}", said(&refused));
    });
}

pub(crate) fn directory() -> PathBuf {
    root().join("clients/python")
}

/// Generates the stubs of all services into this directory.
pub(crate) async fn generate(python: &Path, into: &Path) {
    let mut generate = Command::new("bash");
    generate.arg(directory().join("generate.sh")).env("PYTHON", python).env("GEN", into);
    let generated = run(generate).await;
    assert!(generated.status.success(), "no stubs: {}", said(&generated));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that `make test` prepares, else the machine's own. Without the modules it is an error, never a skip.
pub(crate) async fn python() -> PathBuf {
    let prepared = root().join("target/tools/venv/bin/python");
    let python = if prepared.exists() { prepared } else { PathBuf::from("python3") };
    let mut look = Command::new(&python);
    look.args(["-c", "import grpc, grpc_tools.protoc, kafka"]);
    let found = run(look).await;
    let missing = "has not what clients/python/requirements.txt names: run `deploy/bootstrap.sh python`";
    assert!(found.status.success(), "{} {missing}: {}", python.display(), said(&found));
    python
}

pub(crate) async fn run(mut command: Command) -> Output {
    // Nothing but the stubs is written into the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    local::program::run(command, WITHIN).await.expect("it ends in time")
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn first_line(output: &Output) -> String {
    said(output).lines().next().unwrap_or_default().to_owned()
}
