//! A program under `drainctl run`: the real binary, real processes.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod drained;
mod first;
mod killed;
mod passed;
mod secrets;
mod support;
mod terminal;
