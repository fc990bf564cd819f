//! Settle takes orders and settles them. `main` is one match over these modules; tests call the same doors.

/// `println!` that takes a closed pipe for what it is.
macro_rules! say {
    ($($words:tt)*) => { $crate::client::print(&format!($($words)*)) };
}

pub mod audit;
pub mod bench;
pub mod client;
pub mod config;
pub mod dead_letters;
pub mod demo;
pub mod deployment;
pub mod dlq;
pub mod doctor;
pub mod events;
pub mod migrate;
pub mod model;
pub mod orders;
pub mod outbox;
pub mod platform;
pub mod provider;
pub mod sagas;
pub mod sandbox_provider;
pub mod seed;
pub mod serve;
pub mod up;
