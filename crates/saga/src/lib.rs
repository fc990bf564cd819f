//! Sagas without a runtime: a [`Definition`] is data, [`next()`] is one pure function, and [`explore`] is a model checker over
//! that very function.
//!
//! Whoever runs a saga keeps its [`Progress`], gives [`next()`] every [`Input`] and sends the [`Command`]s that come back.
//! Participants keep three promises (each has a sabotage in [`explore`] that shows what happens without it): an answer names
//! the command it answers; the same command gets the same answer and has its effect once; an undo that arrives before its
//! command leaves a mark that refuses it.
//!
//! Patterns: saga with a process manager, pivot and compensations (Garcia-Molina and Salem; microservices.io).

mod definition;
pub mod explore;
mod next;
mod picture;
mod progress;
mod text;

pub use definition::{Definition, Nonsense, Step, StepDraft, Undo, step};
pub use next::{Answer, Command, Input, next};
pub use picture::mermaid;
pub use progress::{Cause, Phase, Progress, Stand, State, StepState};
pub use text::Unreadable;
