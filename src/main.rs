//! `settle`: the platform, its parts, and the tools around it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settle::{audit, bench, config, demo, dlq, doctor, events, migrate, orders, outbox, sagas, sandbox_provider, seed, serve, up};

/// Batches are many short-lived allocations: a fifth of the services' CPU time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes orders and settles them: every accepted order ends confirmed, or undone, or listed as needing a person.
#[derive(Parser)]
#[command(name = "settle", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole platform here, on a private Postgres
    Up(up::Args),
    /// Run some services against shared databases (and Kafka)
    Serve(serve::Args),
    /// Run the sandbox payment provider as a process of its own, over HTTP
    SandboxProvider(sandbox_provider::Args),
    /// Bring the databases of all services to the newest schema
    Migrate(migrate::Args),
    /// Create the products of the examples
    Seed(seed::Args),
    /// Place orders of every kind and check what becomes of them
    Demo(demo::Args),
    /// List or show orders
    Orders(orders::Args),
    /// List or show sagas
    Saga(sagas::Args),
    /// Streams, who reads them and how far they are, and the ways out when one stops
    Outbox(outbox::Args),
    /// Dead letters: records that a service could not apply, and what becomes of them
    Dlq(dlq::Args),
    /// Print what the services say to each other, look for one event, rebuild a topic
    Events(events::Args),
    /// Prove that money, goods and stories agree, over all databases and the provider's statement; it only reads
    Audit(audit::Args),
    /// Measure orders per second from create to CONFIRMED
    Bench(bench::Args),
    /// Print every setting with its default and its value
    Config(config::Args),
    /// Check what this machine has, and whether a running platform, its databases and brokers are in order
    Doctor(doctor::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Up(args) => up::main(args).await,
        Command::Serve(args) => serve::main(args).await,
        Command::SandboxProvider(args) => sandbox_provider::main(args).await,
        Command::Migrate(args) => migrate::main(args).await,
        Command::Seed(args) => seed::main(args).await,
        Command::Demo(args) => demo::main(args).await,
        Command::Orders(args) => orders::main(args).await,
        Command::Saga(args) => sagas::main(args).await,
        Command::Outbox(args) => outbox::main(args).await,
        Command::Dlq(args) => dlq::main(args).await,
        Command::Events(args) => events::main(args).await,
        Command::Audit(args) => audit::main(args).await,
        Command::Bench(args) => bench::main(args).await,
        Command::Config(args) => config::main(args),
        Command::Doctor(args) => doctor::main(args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("settle: {error:#}");
            ExitCode::FAILURE
        }
    }
}
