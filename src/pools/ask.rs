//! Every pool's own word at once, for people who want to know. Reads only.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Context, Membership, PoolErrorKind, build};
use crate::config::PoolSpec;
use crate::world::{Deadline, Root};

/// An answer may come so much later than its deadline.
const GRACE: Duration = Duration::from_millis(60);

/// What one pool says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Its name in the config.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// What it says of this host; `None` where it could not be asked.
    pub membership: Option<Membership>,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// The kind of that error.
    #[serde(skip)]
    pub fault: Option<PoolErrorKind>,
}

/// Asks all of `specs` side by side, each for at most `limit`.
#[must_use]
pub fn ask(root: &Root, specs: &[PoolSpec], limit: Duration) -> Vec<Said> {
    let deadline = Deadline::after(limit);
    let (tell, answers) = channel();
    for (at, spec) in specs.iter().enumerate() {
        let (tell, spec) = (tell.clone(), spec.clone());
        let cx = Context {
            deadline,
            root: root.clone(),
        };
        std::thread::spawn(move || {
            let answer = build(&spec).and_then(|pool| pool.status(&cx));
            tell.send((at, answer))
        });
    }
    let mut said: Vec<Said> = specs
        .iter()
        .map(|spec| Said {
            name: spec.name.clone(),
            kind: spec.kind.clone(),
            membership: None,
            error: Some("no answer in time".to_owned()),
            fault: Some(PoolErrorKind::TimedOut),
        })
        .collect();
    drop(tell);
    let end = Instant::now() + limit + GRACE;
    while let Ok((at, answer)) = answers.recv_timeout(end.saturating_duration_since(Instant::now()))
    {
        said[at].error = answer.as_ref().err().map(ToString::to_string);
        said[at].fault = answer.as_ref().err().map(super::PoolError::kind);
        said[at].membership = answer.ok();
    }
    said
}
