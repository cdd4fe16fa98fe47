//! logind: who may delay or block a shutdown, and for how long.

use std::time::Duration;

use zbus::Connection;

use super::Error;
use super::bus::{property, within};
use crate::world::Deadline;

const LOGIN: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";

/// What logind says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The longest that one who delays may take (`InhibitDelayMaxSec=` in logind.conf(5)).
    pub delay_max: Duration,
    /// Everybody who delays or blocks a shutdown now.
    pub inhibitors: Vec<Inhibitor>,
}

/// One who has taken a lock (systemd-inhibit(1)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inhibitor {
    /// Its own name for itself.
    pub who: String,
    /// Its reason.
    pub why: String,
    /// `delay` or `block`.
    pub mode: String,
    /// Its process.
    pub pid: u32,
}

/// What, who, why, mode, user, process.
type Listed = (String, String, String, String, u32, u32);

/// Asks logind, which is known to run: it would be started otherwise.
///
/// # Errors
/// [`Error::Bus`] or [`Error::BusTimedOut`].
pub fn ask(deadline: Deadline) -> Result<Login, Error> {
    within(deadline, move || {
        zbus::block_on(async {
            let bus = Connection::system().await?;
            let delay: u64 = property(&bus, LOGIN, PATH, MANAGER, "InhibitDelayMaxUSec").await?;
            let listed = bus
                .call_method(Some(LOGIN), PATH, Some(MANAGER), "ListInhibitors", &())
                .await?;
            let listed: Vec<Listed> = listed.body().deserialize()?;
            Ok(Login {
                delay_max: Duration::from_micros(delay),
                inhibitors: listed.into_iter().filter_map(of_shutdown).collect(),
            })
        })
    })
}

/// Those for a shutdown; others delay sleep and keys.
fn of_shutdown((what, who, why, mode, _, pid): Listed) -> Option<Inhibitor> {
    let plain = |text: String| text.replace(char::is_control, " ");
    what.split(':')
        .any(|what| what == "shutdown")
        .then(|| Inhibitor {
            who: plain(who),
            why: plain(why),
            mode,
            pid,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locks_on_the_shutdown_count() {
        let listed = |what: &str| {
            let text = |text: &str| text.to_owned();
            (text(what), text("who\n"), text("why"), text("delay"), 0, 7)
        };
        assert_eq!(of_shutdown(listed("sleep:idle")), None);
        let found = of_shutdown(listed("sleep:shutdown")).unwrap();
        assert_eq!((found.who.as_str(), found.pid), ("who ", 7));
    }
}
