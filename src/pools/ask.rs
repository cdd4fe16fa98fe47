//! Every pool's own word at once, for people who want to know. Reads only.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Context, Membership, Pool, PoolError, PoolErrorKind, build};
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
    let answers = each(root, specs, limit, |pool, cx| pool.status(cx));
    let said = specs.iter().zip(answers).map(|(spec, answer)| Said {
        name: spec.name.clone(),
        kind: spec.kind.clone(),
        error: answer.as_ref().err().map(ToString::to_string),
        fault: answer.as_ref().err().map(PoolError::kind),
        membership: answer.ok(),
    });
    said.collect()
}

/// One call to each of `specs`, side by side; one answer a pool, after `limit` at the latest. A pool that hangs keeps its thread.
pub(super) fn each<T: Send + 'static>(
    root: &Root,
    specs: &[PoolSpec],
    limit: Duration,
    call: fn(&dyn Pool, &Context) -> Result<T, PoolError>,
) -> Vec<Result<T, PoolError>> {
    let deadline = Deadline::after(limit);
    let (tell, heard) = channel();
    for (at, spec) in specs.iter().enumerate() {
        let (tell, spec) = (tell.clone(), spec.clone());
        let cx = Context {
            deadline,
            root: root.clone(),
        };
        std::thread::spawn(move || {
            let answer = build(&spec).and_then(|pool| call(pool.as_ref(), &cx));
            tell.send((at, answer))
        });
    }
    let late = || {
        let text = anyhow::anyhow!("no answer in time");
        Err(PoolError::new(PoolErrorKind::TimedOut, text))
    };
    let mut answers: Vec<_> = specs.iter().map(|_| late()).collect();
    drop(tell);
    let end = Instant::now() + limit + GRACE;
    while let Ok((at, answer)) = heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
        answers[at] = answer;
    }
    answers
}
