//! What probes found, in the state folder.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::evidence::{Listener, Spoken};
use crate::receipts::STATE_DIR;
use crate::world::Root;

const VERSION: u32 = 1;
const MOST_BYTES: u64 = 1 << 20;

/// What was found counts for so long; then it is looked for again when there is occasion.
pub const PROBED_AGAIN: Duration = Duration::from_hours(24);

/// What is known of the target's ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    ports: Vec<Port>,
}

/// What was found on one port. It is another one once another program listens there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The port.
    pub port: u16,
    /// The program that listens.
    pub program: String,
    /// And its process, as [`Listener::process`] has it.
    #[serde(default)]
    pub process: Option<String>,
    /// When it was probed.
    pub probed: Timestamp,
    /// What is spoken there.
    pub spoken: Spoken,
}

fn path() -> String {
    format!("{STATE_DIR}/ports.json")
}

impl Kept {
    /// What is kept. A file that can't be read or understood is as none: nothing is known then, and the next probe writes it anew.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let text = root.read(path(), MOST_BYTES).unwrap_or_default();
        serde_json::from_str(&text)
            .ok()
            .filter(|kept: &Self| kept.version == VERSION)
            .unwrap_or_default()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, root: &Root) -> io::Result<()> {
        self.version = VERSION;
        root.replace(path(), &serde_json::to_vec_pretty(self)?, 0o600)
    }

    /// What is spoken on a listener's port, as far as it is known.
    #[must_use]
    pub fn of(&self, listener: &Listener) -> Spoken {
        self.find(listener)
            .map(|port| port.spoken)
            .unwrap_or_default()
    }

    /// Every port.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Whether they are the same port of the same program.
    pub(super) fn same(one: &Listener, other: &Listener) -> bool {
        one.local.port() == other.local.port() && one.program == other.program
    }

    /// Whether it is known what is spoken on a listener's port, from a probe no longer ago than `age`, of the process that listens now: a
    /// program that was started anew may be another version of it, or have another config.
    pub(super) fn is_fresh(&self, listener: &Listener, age: Duration) -> bool {
        let old = |port: &Port| Timestamp::now().duration_since(port.probed).unsigned_abs() > age;
        let other = |port: &Port| listener.process.is_some() && listener.process != port.process;
        self.find(listener)
            .is_some_and(|port| !old(port) && !other(port))
    }

    /// Notes what is spoken on a listener's port; whatever else was known of that port is forgotten. `false` where nothing changed: what
    /// is found again within a day stays as it is.
    pub fn put(&mut self, listener: &Listener, spoken: Spoken) -> bool {
        let known = self.of(listener).is_as(&spoken);
        if known && self.is_fresh(listener, PROBED_AGAIN) {
            return false;
        }
        let number = listener.local.port();
        self.ports.retain(|port| port.port != number);
        self.ports.push(Port {
            port: number,
            program: listener.program.clone(),
            process: listener.process.clone(),
            probed: Timestamp::now(),
            spoken,
        });
        self.ports.sort_by_key(|port| port.port);
        true
    }

    fn find(&self, listener: &Listener) -> Option<&Port> {
        self.ports
            .iter()
            .find(|port| port.port == listener.local.port() && port.program == listener.program)
    }
}
