//! Who else would take the traffic: asked before leaving, so that nobody is the last one without knowing it.

use std::time::Duration;

use serde::Serialize;

use super::PoolErrorKind;
use super::ask::each;
use crate::config::PoolSpec;
use crate::world::Root;

/// How many others a pool sends traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peers {
    /// At the scarcest of what this host serves there.
    Others {
        /// How many are healthy and not this host.
        healthy: u64,
        /// How many the pool knows besides this host, healthy or not.
        known: u64,
        /// What they share with this host: a service, a backend.
        of: String,
    },
    /// The pool knows only of this host, or sends it nothing anyway.
    Untold,
}

impl Peers {
    /// The scarcer of two.
    pub(super) fn scarcer(self, healthy: u64, known: u64, of: &str) -> Self {
        match self {
            Self::Others { healthy: least, .. } if least <= healthy => self,
            _ => Self::Others {
                healthy,
                known,
                of: of.to_owned(),
            },
        }
    }
}

/// What one pool says of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeersSaid {
    /// Its name in the config.
    pub name: String,
    /// What it says; `None` where it could not be asked.
    pub peers: Option<Peers>,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// The kind of that error.
    #[serde(skip)]
    pub fault: Option<PoolErrorKind>,
}

/// Asks all of `specs` side by side how many others they know, each for at most `limit`.
#[must_use]
pub fn peers(root: &Root, specs: &[PoolSpec], limit: Duration) -> Vec<PeersSaid> {
    let answers = each(root, specs, limit, |pool, cx| pool.peers(cx));
    let said = specs.iter().zip(answers).map(|(spec, answer)| PeersSaid {
        name: spec.name.clone(),
        error: answer.as_ref().err().map(ToString::to_string),
        fault: answer.as_ref().err().map(super::PoolError::kind),
        peers: answer.ok(),
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_is_told() {
        let peers = Peers::Untold
            .scarcer(3, 3, "a")
            .scarcer(1, 4, "b")
            .scarcer(2, 2, "c");
        let of = "b".to_owned();
        assert_eq!(
            peers,
            Peers::Others {
                healthy: 1,
                known: 4,
                of
            }
        );
    }
}
