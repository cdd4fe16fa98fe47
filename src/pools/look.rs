//! Pools that are found on a host by what runs there: for a config that is written for the first time.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Context, KINDS};
use crate::config::FoundPool;
use crate::world::{Deadline, Root};

/// An answer may come so much later than its deadline.
const GRACE: Duration = Duration::from_millis(100);

/// How a type of pool is looked for, beginning with these settings instead of its defaults. Reads only.
pub type Find = fn(&Context, &Value) -> Looked;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looked {
    /// Pools that send this host traffic.
    pub found: Vec<FoundPool>,
    /// What else there is to say, for people: something is there that can't be used as it is.
    pub remarks: Vec<String>,
}

/// Looks for every type of pool that can be found, side by side, for at most `limit`.
#[must_use]
pub fn look(root: &Root, limit: Duration) -> Looked {
    let deadline = Deadline::after(limit);
    let (tell, answers) = channel();
    for (at, find) in KINDS.iter().filter_map(|kind| kind.find).enumerate() {
        let tell = tell.clone();
        let cx = Context {
            deadline,
            root: root.clone(),
        };
        std::thread::spawn(move || tell.send((at, find(&cx, &json!({})))));
    }
    drop(tell);
    let end = Instant::now() + limit + GRACE;
    let mut all = Vec::new();
    while let Ok(answer) = answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
        all.push(answer);
    }
    // In the order of the table, whoever answered first.
    all.sort_by_key(|(at, _)| *at);
    let mut looked = Looked::default();
    for (_, one) in all {
        looked.found.extend(one.found);
        looked.remarks.extend(one.remarks);
    }
    looked
}
