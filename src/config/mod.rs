//! One file's values → merged → settings.

pub mod duration;
mod fault;
mod section;
mod settings;

pub use fault::{Fault, Faults, Nature};
pub use section::{Section, read_alone};
pub use settings::{
    Deadlines, Network, PoolSpec, RejoinSettings, Settings, SettleSettings, WatchSettings,
};
