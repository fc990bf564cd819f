//! Whole-system tests, a module a promise. One binary, so that it links once and its platforms are shared.

mod harness;
