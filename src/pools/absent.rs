//! Who is registered in a pool and sent nothing, and why.

use std::time::Duration;

use serde::Serialize;

use super::ask::each;
use crate::config::PoolSpec;
use crate::world::Root;

/// One that is sent nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absent {
    /// Its node or server.
    pub name: String,
    /// Why, as the pool tells it: the reason of a maintenance, the check that fails.
    pub why: String,
    /// Somebody took it out.
    pub on_purpose: bool,
    /// It is this host.
    pub here: bool,
    /// The reason is one that this program gives.
    pub by_drainctl: bool,
}

/// What a pool says when it is looked at closely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Closely {
    /// Everybody who is sent nothing, this host among them.
    pub absent: Vec<Absent>,
    /// What leave and rejoin need, and this host may not do.
    pub missing_rights: Vec<String>,
}

/// Asks all of `specs` side by side, each for at most `limit`; `None` where one could not be asked.
#[must_use]
pub fn closely(root: &Root, specs: &[PoolSpec], limit: Duration) -> Vec<Option<Closely>> {
    let answers = each(root, specs, limit, |pool, cx| {
        Ok(Closely {
            absent: pool.absent(cx)?,
            missing_rights: pool.missing_rights(cx)?,
        })
    });
    answers.into_iter().map(Result::ok).collect()
}
