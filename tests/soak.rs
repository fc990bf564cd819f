//! What takes long, on a release build: `make soak` runs it. Each test prints its figures as a line of JSON.

mod held_open;
mod load;
mod outage;
