//! `settle`: the platform, its parts, and the tools around it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settle::{bench, config, demo, doctor, migrate, orders, sagas, seed, serve, up};

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
    /// Measure orders per second from create to CONFIRMED
    Bench(bench::Args),
    /// Print every setting with its default and its value
    Config(config::Args),
    /// Check what this machine has and what a running platform says of itself
    Doctor(doctor::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Up(args) => up::main(args).await,
        Command::Serve(args) => serve::main(args).await,
        Command::Migrate(args) => migrate::main(args).await,
        Command::Seed(args) => seed::main(args).await,
        Command::Demo(args) => demo::main(args).await,
        Command::Orders(args) => orders::main(args).await,
        Command::Saga(args) => sagas::main(args).await,
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
