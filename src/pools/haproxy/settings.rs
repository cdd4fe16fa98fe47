//! The settings of HAProxy's servers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Section;
use crate::world::dial::Address;

/// What the config says.
#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    socket: Sockets,
    pub(super) servers: Vec<String>,
    pub(super) leave: Leave,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a socket's path or host:port, or a list of them"
)]
enum Sockets {
    One(String),
    /// Each a process of its own, with all the servers.
    Many(Vec<String>),
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Leave {
    /// No new sessions but those that persistence ties to it; checks go on.
    #[default]
    Drain,
    /// No new sessions at all; checks rest.
    Maint,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Debian's and Red Hat's configs have it there.
            socket: Sockets::One("/run/haproxy/admin.sock".to_owned()),
            servers: Vec::new(),
            leave: Leave::Drain,
        }
    }
}

impl Settings {
    pub(super) fn sockets(&self) -> &[String] {
        match &self.socket {
            Sockets::One(one) => std::slice::from_ref(one),
            Sockets::Many(many) => many,
        }
    }
}

/// The backend and the server of `backend/server`. Nothing that could end the command it is put into: the characters are those that HAProxy's own
/// config allows.
pub(super) fn split(server: &str) -> Option<(&str, &str)> {
    let sound = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        !name.is_empty() && name.chars().all(allowed)
    };
    let (backend, name) = server.split_once('/')?;
    (sound(backend) && sound(name)).then_some((backend, name))
}

/// Reads and checks the pool's table in the config.
pub(super) fn check(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    let sockets = settings.sockets();
    if sockets.is_empty() {
        section.fault("socket", "must name at least one");
    }
    for (index, socket) in sockets.iter().enumerate() {
        if let Err(error) = Address::parse(socket) {
            section.fault_item("socket", index, error);
        } else if sockets[..index].contains(socket) {
            section.fault_item("socket", index, "is named twice; remove one");
        }
    }
    if settings.servers.is_empty() {
        section.fault(
            "servers",
            "must name this host's servers, like \"backend/server\"",
        );
    }
    for (index, server) in settings.servers.iter().enumerate() {
        if split(server).is_none() {
            section.fault_item("servers", index, "must be \"backend/server\"");
        } else if settings.servers[..index].contains(server) {
            section.fault_item("servers", index, "is named twice; remove one");
        }
    }
    section.keep(&settings)
}
