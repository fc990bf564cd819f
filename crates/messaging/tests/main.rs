//! The conformance suite of the streams: a module a promise, each on every bus that could break it.
//! One binary, so that its tests share one Postgres and one Kafka.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// `on_buses!(name)` makes a test a bus of `async fn name(on: On)`; `on_buses!(name: shuffle, kafka)` of these buses alone.
macro_rules! on_buses {
    ($name:ident) => {
        on_buses!($name: postgres, shuffle, kafka);
    };
    ($name:ident: $($bus:ident),+) => {
        mod $name {
            $(on_bus!($bus $name);)+
        }
    };
}

macro_rules! on_bus {
    (postgres $name:ident) => {
        #[test]
        fn postgres() {
            crate::fixture::run(super::$name(crate::fixture::On::Postgres));
        }
    };
    (shuffle $name:ident) => {
        #[test]
        fn shuffle() {
            crate::fixture::run(super::$name(crate::fixture::On::Shuffle));
        }
    };
    (kafka $name:ident) => {
        #[cfg(feature = "kafka")]
        #[test]
        fn kafka() {
            crate::fixture::run(super::$name(crate::fixture::On::Kafka));
        }
    };
}

mod calls;
mod crash;
mod fixture;
#[cfg(feature = "kafka")]
mod foreign;
mod gap;
mod order;
mod parking;
mod repeats;
#[cfg(feature = "kafka")]
mod switch;
mod take_over;
mod waiting;
