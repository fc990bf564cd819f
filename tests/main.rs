//! Whole-system tests, a module a promise. One binary, so that it links once and its platforms are shared.

mod agreement;
mod agreement_sees;
mod bad_input;
mod bench;
mod clients;
mod crash;
mod dead_letters;
mod every_bus;
mod foreign;
mod harness;
mod idempotency;
mod lists;
mod logs;
mod mixed;
mod operator;
mod output;
mod placing;
mod process;
mod reflection;
mod restart;
mod set_aside;
mod settles;
mod startup;
mod tidy;
mod traces;
mod watch;
