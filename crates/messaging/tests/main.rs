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

mod admission;
#[cfg(feature = "kafka")]
mod broker;
mod calls;
mod copies;
mod crash;
mod crash_loop;
mod database;
mod dead_letters;
mod example;
mod fixture;
#[cfg(feature = "kafka")]
mod foreign;
mod full_disk;
mod gap;
mod in_doubt;
mod operate;
mod order;
mod outbox;
mod park_limit;
mod parking;
mod permutations;
mod plans;
mod poison;
mod processes;
mod racing;
#[cfg(feature = "kafka")]
mod raw;
mod rehearsals;
#[cfg(feature = "kafka")]
mod relay;
mod repeats;
mod restored;
mod retention;
mod slow;
#[cfg(feature = "kafka")]
mod switch;
mod take_over;
mod waiting;
#[cfg(feature = "kafka")]
mod wiped;
