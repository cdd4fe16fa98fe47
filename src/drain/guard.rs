//! Whether anybody else takes the traffic: what the pools say, and what it means. Pure.

use crate::pools::{Peers, PeersSaid};

/// What the pools' words mean together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Others are there, or no pool knows of any.
    Fine,
    /// This host would be one of the last; the text says where.
    Last(String),
    /// No pool knows anybody else at all: a host that is alone by design, most likely. The text says where.
    Alone(String),
    /// A pool that might know could not be asked; the text says why.
    Unknown(String),
}

/// Whether at least `needed` others are healthy in every pool that can tell.
#[must_use]
pub fn judge(said: &[PeersSaid], needed: u64) -> Guard {
    let (mut unknown, mut alone) = (None, None);
    for pool in said {
        let name = &pool.name;
        match (&pool.peers, &pool.error) {
            (Some(Peers::Others { known: 0, of, .. }), _) if needed > 0 => {
                alone.get_or_insert_with(|| {
                    format!("nobody else is known in {name} ({of}): this host is the only one")
                });
            }
            (Some(Peers::Others { healthy, of, .. }), _) if *healthy < needed => {
                return Guard::Last(match healthy {
                    0 => format!("NOBODY ELSE IS HEALTHY in {name} ({of}): this host is the last"),
                    _ => format!(
                        "only {healthy} other healthy in {name} ({of}), fewer than {needed}"
                    ),
                });
            }
            (None, error) => {
                let error = error.as_deref().unwrap_or("not asked");
                unknown.get_or_insert_with(|| {
                    format!("whether others are healthy in {name} is unknown: {error}")
                });
            }
            (Some(_), _) => {}
        }
    }
    match (alone, unknown) {
        (Some(alone), _) => Guard::Alone(alone),
        (None, Some(unknown)) => Guard::Unknown(unknown),
        (None, None) => Guard::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(peers: Option<Peers>) -> PeersSaid {
        PeersSaid {
            name: "edge".to_owned(),
            error: peers.is_none().then(|| "no answer in time".to_owned()),
            fault: None,
            peers,
        }
    }

    fn of(healthy: u64, known: u64) -> PeersSaid {
        let of = "web".to_owned();
        said(Some(Peers::Others { healthy, known, of }))
    }

    fn others(healthy: u64) -> PeersSaid {
        of(healthy, 9)
    }

    #[test]
    fn one_pool_without_others_is_enough_and_unknown_is_not_none() {
        assert_eq!(judge(&[], 1), Guard::Fine);
        assert_eq!(judge(&[said(Some(Peers::Untold))], 1), Guard::Fine);
        assert_eq!(judge(&[others(1), others(7)], 1), Guard::Fine);
        assert!(matches!(judge(&[others(1), others(7)], 2), Guard::Last(_)));
        assert!(matches!(judge(&[said(None), others(0)], 1), Guard::Last(_)));
        assert!(matches!(
            judge(&[said(None), others(1)], 1),
            Guard::Unknown(_)
        ));
        assert_eq!(judge(&[others(0)], 0), Guard::Fine);
        assert!(matches!(judge(&[of(0, 0), others(1)], 1), Guard::Alone(_)));
        assert!(matches!(judge(&[of(0, 0), others(0)], 1), Guard::Last(_)));
    }
}
