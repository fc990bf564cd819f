//! Other programs on this machine, for `settle up`, the bench and all tests: a private Postgres and Kafka, the watcher that
//! ends them with us, a proxy that fails on request, free ports, data directories, CPU time, and waiting without sleeping.

pub mod cpu;
pub mod data_dir;
mod error;
pub mod kafka;
mod kafka_jars;
mod lock;
mod log;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod proxy;
mod wait;
pub mod watch;

pub use error::Error;
pub use kafka::Kafka;
pub use lock::DirLock;
pub use postgres::Postgres;
pub use program::Program;
pub use proxy::Proxy;
pub use wait::{Timeout, until};
