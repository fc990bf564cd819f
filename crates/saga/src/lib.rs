#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod definition;
pub mod explore;
mod next;
mod picture;
mod progress;
mod text;

pub use definition::{Definition, Nonsense, Step, StepDraft, Undo, step};
pub use explore::explore;
pub use next::{Answer, Command, Input, Operation, next};
pub use picture::mermaid;
pub use progress::{Cause, Phase, Progress, Stand, State, StepState};
pub use text::Unreadable;
