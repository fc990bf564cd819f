//! The house rules (docs/architecture.md) over the whole source tree. Each rule is a function of a file's path and text, and is
//! shown a bad example, so that it is known to be able to fail.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

const LINES_MAX: usize = 400;
/// Longer for a reason. None is.
const LONG: &[&str] = &[];

/// Domain files: no input, no output, no clock, no chance.
const PURE: &[&str] = &[
    "crates/contracts/src/ids.rs",
    "crates/contracts/src/money.rs",
    "crates/messaging/src/crash.rs",
    "crates/messaging/src/cursor.rs",
    "crates/messaging/src/outbox/copy.rs",
    "crates/messaging/src/outbox/ranges.rs",
    "crates/messaging/src/partition.rs",
    "crates/saga/src/",
    "services/inventory/src/reservation.rs",
    "services/inventory/src/stock.rs",
    "services/notification/src/text.rs",
    "services/orchestrator/src/definitions.rs",
    "services/orchestrator/src/hear.rs",
    "services/orchestrator/src/instance.rs",
    "services/orchestrator/src/known.rs",
    "services/orchestrator/src/operations.rs",
    "services/orchestrator/src/tell.rs",
    "services/order/src/catalogue.rs",
    "services/order/src/draft.rs",
    "services/order/src/order.rs",
    "services/order/src/refund.rs",
    "services/payment/src/breaker.rs",
    "services/payment/src/dispatcher/budget.rs",
    "services/payment/src/payment.rs",
    "services/payment/src/payment/",
    "services/payment/src/sandbox/chaos.rs",
    "services/payment/src/sandbox/claims.rs",
    "services/payment/src/sandbox/script.rs",
    "services/shipping/src/shipment.rs",
    "src/model.rs",
    "src/model/",
];
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "axum",
    "new_v4",
    "now_local",
    "now_utc",
    "now_v7",
    "rand",
    "rdkafka",
    "reqwest",
    "sqlx",
    "tokio",
    "tonic",
];

const SQL: &[&str] = &[
    "sqlx::query",
    "sqlx::raw_sql",
    "query_as(",
    "query_scalar(",
    "QueryBuilder",
    "\"select ",
    "\"insert into ",
    "\"update ",
    "\"delete from ",
];

/// Where tonic may be named beside `grpc.rs`: what serves, generates and calls gRPC.
const GRPC_ROOMS: &[&str] = &["crates/contracts/", "crates/kit/", "services/gateway/", "src/", "tests/"];

/// Names that say nothing of a subject.
const SHAPELESS: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// What only one machine or one network has. In two pieces, so that this file does not name them.
const OF_ONE_MACHINE: &[(&str, &str)] = &[
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/Us", "ers/"),
    ("/wo", "rk/"),
    ("index", "-url"),
    ("GO", "PROXY="),
    ("[sou", "rce."),
    ("<mir", "ror"),
    ("<repo", "sitory>"),
];
/// Cargo's own name for its default registry, in a lock file.
const DEFAULT_REGISTRY: &str = concat!("registry+https://github.com/rust-lang/", "cra", "tes.io-index");

/// Not ours, or not kept.
const NOT_READ: &[&str] = &[".data", ".git", ".venv", "__pycache__", "gen", "target"];

#[test]
fn files_are_short() {
    check(too_long);
    let long = "\n".repeat(LINES_MAX);
    assert!(too_long("src/a.rs", &long).is_some());
    assert!(too_long("src/a.rs", &long[1..]).is_none() && too_long("src/a.md", &long).is_none());
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (is_rust(path) && lines >= LINES_MAX && !LONG.contains(&path)).then(|| format!("{lines} lines: it has two subjects"))
}

#[test]
fn the_domain_is_pure() {
    check(impure);
    for listed in PURE {
        assert!(tree().iter().any(|(path, _)| path.starts_with(listed)), "{listed} is not there any more");
    }
    assert!(impure("services/order/src/order.rs", "let at = OffsetDateTime::now_utc();").is_some());
    assert!(impure("crates/saga/src/next/a.rs", "use tokio::time;").is_some());
    assert!(
        impure("services/order/src/order.rs", "// no tokio\nlet random = \"x\";\n#[cfg(test)]\nmod tests {\nuse rand::*;")
            .is_none()
    );
    assert!(impure("services/order/src/store.rs", "use sqlx::query;").is_none());
}

fn impure(path: &str, text: &str) -> Option<String> {
    if !PURE.iter().any(|pure| path.starts_with(pure)) || path.ends_with("/tests.rs") {
        return None;
    }
    let named = IMPURE.iter().find(|word| names(&code(text), word))?;
    Some(format!("a domain file names {named}"))
}

#[test]
fn sql_lives_in_stores() {
    check(stray_sql);
    assert!(stray_sql("services/order/src/grpc.rs", "sqlx::query(TEXT)").is_some());
    assert!(stray_sql("services/order/src/grpc.rs", "let text = \"select 1\";").is_some());
    assert!(stray_sql("src/bench.rs", "let n: i64 = sqlx::query_scalar::<_, i64>(TEXT)").is_some());
    assert!(stray_sql("services/order/src/store.rs", "sqlx::query(\"select 1\")").is_none());
    assert!(stray_sql("crates/messaging/examples/loyalty.rs", "sqlx::query(\"select 1\")").is_none());
    assert!(stray_sql("services/payment/src/provider.rs", "provider.query(key)").is_none());
}

fn stray_sql(path: &str, text: &str) -> Option<String> {
    // An example is read from top to bottom, in one file.
    if !is_rust(path) || path.ends_with("/store.rs") || is_test(path) || path.contains("/examples/") {
        return None;
    }
    let found = SQL.iter().find(|found| code(text).contains(**found))?;
    Some(format!("SQL outside of store.rs: {found}"))
}

#[test]
fn tonic_and_rdkafka_stay_in_their_rooms() {
    check(stray_grpc);
    check(stray_kafka);
    assert!(stray_grpc("services/order/src/events.rs", "fn refused() -> tonic::Status").is_some());
    assert!(stray_grpc("services/order/src/lib.rs", "use tonic::Status;").is_some());
    assert!(stray_grpc("services/order/src/lib.rs", "use tonic::service::Routes;").is_none());
    assert!(stray_grpc("services/order/src/grpc.rs", "use tonic::Status;").is_none());
    assert!(stray_kafka("crates/messaging/src/runner.rs", "use rdkafka::Message;").is_some());
    assert!(stray_kafka("services/order/Cargo.toml", "rdkafka.workspace = true").is_some());
    assert!(stray_kafka("crates/messaging/src/bus/kafka/relay.rs", "use rdkafka::Message;").is_none());
}

fn stray_grpc(path: &str, text: &str) -> Option<String> {
    let allowed = path.ends_with("/grpc.rs") || is_test(path) || GRPC_ROOMS.iter().any(|room| path.starts_with(room));
    // The door of a service gives its routes to whoever serves them.
    let code = code(text).replace("tonic::service::Routes", "");
    (is_rust(path) && !allowed && names(&code, "tonic")).then(|| "names tonic outside of grpc.rs".to_owned())
}

fn stray_kafka(path: &str, text: &str) -> Option<String> {
    let allowed = path.starts_with("crates/messaging/src/bus/kafka/") || is_test(path);
    let manifest = path.ends_with("/Cargo.toml") && path != "crates/messaging/Cargo.toml";
    let named = (is_rust(path) && !allowed && names(&code(text), "rdkafka")) || (manifest && depends_on(text, "rdkafka"));
    named.then(|| "names rdkafka outside of the Kafka bus".to_owned())
}

#[test]
fn libraries_know_nothing_of_the_shop() {
    check(entangled_library);
    assert!(entangled_library("crates/saga/src/next.rs", "use contracts::ids;").is_some());
    assert!(entangled_library("crates/messaging/Cargo.toml", "[dependencies]\nkit.workspace = true").is_some());
    assert!(entangled_library("crates/kit/src/lib.rs", "use contracts::ids;").is_none());
}

fn entangled_library(path: &str, text: &str) -> Option<String> {
    let library = ["crates/messaging/", "crates/saga/"].iter().any(|library| path.starts_with(library));
    let named =
        |word: &&&str| (is_rust(path) && names(&code(text), word)) || (path.ends_with("Cargo.toml") && depends_on(text, word));
    let found = ["contracts", "kit"].iter().find(named).filter(|_| library)?;
    Some(format!("a library names {found}"))
}

#[test]
fn services_meet_in_contracts_alone() {
    check(entangled_service);
    assert!(entangled_service("services/order/Cargo.toml", "[dependencies]\npayment.workspace = true").is_some());
    assert!(entangled_service("services/order/Cargo.toml", "[dependencies]\npayment = { path = \"../payment\" }").is_some());
    assert!(
        entangled_service("services/order/Cargo.toml", "[package]\nname = \"order\"\n[dependencies]\nkit.workspace = true")
            .is_none()
    );
}

fn entangled_service(path: &str, text: &str) -> Option<String> {
    let own = path.strip_prefix("services/")?.strip_suffix("/Cargo.toml")?;
    let mut services = tree().iter().filter_map(|(path, _)| path.strip_prefix("services/")?.strip_suffix("/Cargo.toml"));
    services.find(|service| *service != own && depends_on(text, service)).map(|service| format!("depends on the service {service}"))
}

#[test]
fn every_module_has_a_subject() {
    check(shapeless);
    assert!(shapeless("crates/kit/src/utils.rs", "").is_some());
    assert!(shapeless("tests/helpers/mod.rs", "").is_some());
    assert!(SHAPELESS.iter().all(|word| shapeless("src/lib.rs", &format!("pub(crate) mod {word};")).is_some()));
    assert!(shapeless("src/uncommon.rs", "mod retry;").is_none());
}

fn shapeless(path: &str, text: &str) -> Option<String> {
    // settle.common.v1 is a package of protos, where buf's rules want the name of what all packages share.
    if !is_rust(path) || path == "crates/contracts/src/lib.rs" {
        return None;
    }
    let by_path = |word: &&&str| path.split(['/', '.']).any(|part| part == **word);
    let by_module = |word: &&&str| code(text).contains(&format!("mod {word};")) || code(text).contains(&format!("mod {word} {{"));
    SHAPELESS.iter().find(|word| by_path(word) || by_module(word)).map(|word| format!("`{word}` names no subject"))
}

#[test]
fn migrations_go_forward_and_say_why() {
    check(bad_migration);
    assert!(bad_migration("migrations/order/0002_note.sql", "alter table orders add note text;").is_some());
    assert!(bad_migration("migrations/order/0002_note.down.sql", "-- Back.\nalter table orders drop note;").is_some());
    assert!(bad_migration("migrations/order/note.sql", "-- A note.\n").is_some());
    assert!(
        bad_migration("migrations/order/0002_note.sql", "-- A note for the courier.\nalter table orders add note text;").is_none()
    );
}

fn bad_migration(path: &str, text: &str) -> Option<String> {
    let (directory, name) = path.rsplit_once('/')?;
    let name = name.strip_suffix(".sql").filter(|_| directory.starts_with("migrations/") || directory.ends_with("/migrations"))?;
    let numbered = name.len() > 5 && name[..4].bytes().all(|byte| byte.is_ascii_digit()) && name[4..].starts_with('_');
    if !numbered || name.contains('.') {
        return Some("is not NNNN_subject.sql: migrations only go forward".to_owned());
    }
    let why = text.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or_default();
    why.trim().is_empty().then(|| "does not open with a comment that says why".to_owned())
}

#[test]
fn nothing_is_left_unfinished() {
    check(unfinished);
    for word in UNFINISHED {
        assert!(unfinished("src/a.rs", &format!("    {word}!(\"later\")")).is_some());
    }
    assert!(unfinished("src/a.rs", "let debug = 1; // todo").is_none());
}

const UNFINISHED: &[&str] = &["dbg", "todo", "unimplemented"];

fn unfinished(path: &str, text: &str) -> Option<String> {
    let found = UNFINISHED.iter().find(|word| is_rust(path) && text.contains(&format!("{word}!")))?;
    Some(format!("{found}! is left in it"))
}

#[test]
fn nothing_is_of_one_machine() {
    check(of_one_machine);
    for (one, two) in OF_ONE_MACHINE {
        assert!(of_one_machine("deploy/a.sh", &format!("x={one}{two}x")).is_some());
    }
    assert!(of_one_machine("Cargo.lock", "[[package]]\nsource = \"registry+https://mirror.example/index\"\n").is_some());
    assert!(of_one_machine("Cargo.lock", &format!("[[package]]\nsource = \"{DEFAULT_REGISTRY}\"\n")).is_none());
}

fn of_one_machine(path: &str, text: &str) -> Option<String> {
    let mut sources = text.lines().filter_map(|line| line.strip_prefix("source = ")).filter(|_| path == "Cargo.lock");
    if let Some(other) = sources.find(|source| source.trim_matches('"') != DEFAULT_REGISTRY) {
        return Some(format!("a crate comes from {other}"));
    }
    let found = OF_ONE_MACHINE.iter().map(|(one, two)| format!("{one}{two}")).find(|word| text.contains(word))?;
    Some(format!("{found} is of one machine or network"))
}

#[test]
fn links_lead_somewhere() {
    let there = |path: &Path| root().join(path).exists();
    check(|path, text| broken_link(path, text, there));
    let none = |_: &Path| false;
    assert!(broken_link("docs/a.md", "see [b](../b.md#top)", none).is_some());
    assert!(broken_link("docs/a.md", "[b](../b.md)", |path| path == Path::new("docs/../b.md")).is_none());
    assert!(broken_link("docs/a.md", "[b](https://b.example) [c](#c) `[d](d.md)`\n```\n[e](e.md)\n```", none).is_none());
}

fn broken_link(path: &str, text: &str, there: impl Fn(&Path) -> bool) -> Option<String> {
    if !path.ends_with(".md") {
        return None;
    }
    let above = Path::new(path).parent().unwrap_or(Path::new(""));
    let prose = text.split("```").step_by(2).flat_map(|block| block.split('`').step_by(2));
    let targets = prose.flat_map(|text| text.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ', '\n']).next());
    let mut files = targets.filter(|target| !target.contains("://")).filter_map(|target| target.split('#').next());
    files.find(|file| !file.is_empty() && !there(&above.join(file))).map(|file| format!("the link to {file} leads nowhere"))
}

/// Every text file of ours, by its path below the root.
fn tree() -> &'static [(String, String)] {
    static TREE: OnceLock<Vec<(String, String)>> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut files = Vec::new();
        read(root(), &mut files);
        files.sort();
        files
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(dir: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path: PathBuf = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            if !NOT_READ.contains(&&*name) {
                read(&path, files);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            files.push((path, text));
        }
    }
}

/// Every file keeps the rule.
fn check(rule: impl Fn(&str, &str) -> Option<String>) {
    assert!(tree().len() > 100, "the tree is not there");
    let broken: Vec<String> = tree().iter().filter_map(|(path, text)| Some(format!("{path}: {}", rule(path, text)?))).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// A file without its comments and without the tests at its end.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let without_comment = |line: &str| {
        let comment = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
        line[..comment.unwrap_or(line.len())].to_owned() + "\n"
    };
    text[..end].lines().map(without_comment).collect()
}

/// Whether a word is in the code, as a word.
fn names(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|named| named == word)
}

/// Whether a manifest has a dependency of this name, of any kind.
fn depends_on(manifest: &str, name: &str) -> bool {
    manifest.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '='])))
}
