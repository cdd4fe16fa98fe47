//! One file's values → merged → settings.

mod settings;

pub use settings::{
    Deadlines, Network, PoolSpec, RejoinSettings, Settings, SettleSettings, WatchSettings,
};
