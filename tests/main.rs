//! Whole-system tests, a module a promise. One binary, so that it links once and its platforms are shared.

mod agreement;
mod agreement_sees;
mod bad_input;
mod clients;
mod crash;
mod every_bus;
mod harness;
mod idempotency;
mod lists;
mod mixed;
mod output;
mod placing;
mod process;
mod reflection;
mod restart;
mod settles;
mod startup;
mod tidy;
mod traces;
mod watch;
