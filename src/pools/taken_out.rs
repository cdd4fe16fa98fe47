//! Who was taken out of a pool on purpose, and why.

use std::time::Duration;

use serde::Serialize;

use super::ask::each;
use crate::config::PoolSpec;
use crate::world::Root;

/// One that somebody took out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenOut {
    /// Its node or server.
    pub name: String,
    /// Why, as the pool tells it.
    pub why: String,
    /// It is this host.
    pub here: bool,
    /// The reason is one that this program gives.
    pub by_drainctl: bool,
}

/// What a pool says when it is looked at closely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Closely {
    /// Everybody who is out on purpose, this host among them.
    pub taken_out: Vec<TakenOut>,
    /// What leave and rejoin need, and this host may not do.
    pub missing_rights: Vec<String>,
}

/// Asks all of `specs` side by side, each for at most `limit`; `None` where one could not be asked.
#[must_use]
pub fn closely(root: &Root, specs: &[PoolSpec], limit: Duration) -> Vec<Option<Closely>> {
    let answers = each(root, specs, limit, |pool, cx| {
        Ok(Closely {
            taken_out: pool.taken_out(cx)?,
            missing_rights: pool.missing_rights(cx)?,
        })
    });
    answers.into_iter().map(Result::ok).collect()
}
