//! Whole-system tests, a module a promise. One binary, so that it links once and its platforms are shared.

mod agreement;
mod agreement_sees;
mod bad_input;
mod clients;
mod crash;
mod every_bus;
mod harness;
mod idempotency;
mod mixed;
mod placing;
mod process;
mod settles;
mod tidy;
mod traces;
