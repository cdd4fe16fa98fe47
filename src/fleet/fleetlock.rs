//! Slots at any server of the FleetLock protocol, as Zincati speaks it.
//!
//! `POST /v1/pre-reboot` takes a slot, `POST /v1/steady-state` gives it back; both may be repeated. The server says neither who holds slots nor how many
//! there are, and knows no expiry: a host that never comes back keeps its slot until somebody frees it there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Fleet, Holder, Kind, View};
use crate::config::Section;
use crate::pools::{Context, PoolError, PoolErrorKind, one_line};
use crate::world::http::{Client, Endpoint, Tls};

/// FleetLock's line in the table of fleets.
pub(super) const KIND: Kind = Kind {
    name: "fleetlock",
    settings,
    build,
};

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    address: String,
    ca_file: Option<PathBuf>,
    group: String,
    id: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: String::new(),
            ca_file: None,
            group: "default".to_owned(),
            id: None,
        }
    }
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Endpoint::parse(&settings.address) {
        section.fault("address", error);
    }
    // The protocol's own rule.
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    if settings.group.is_empty() || !settings.group.chars().all(allowed) {
        section.fault("group", "must be made of letters, digits, `.` and `-`");
    }
    if settings.id.as_ref().is_some_and(String::is_empty) {
        section.fault(
            "id",
            "must not be empty; leave it out for the host's name and a hash of its machine id",
        );
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> Result<Box<dyn Fleet>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let endpoint = Endpoint::parse(&settings.address).map_err(local)?;
    Ok(Box::new(FleetLock { settings, endpoint }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct FleetLock {
    settings: Settings,
    endpoint: Endpoint,
}

/// What the server knows this host by.
#[derive(Serialize, Deserialize)]
struct Ticket {
    id: String,
    group: String,
}

/// Why the server does not agree.
#[derive(Deserialize)]
struct Said {
    kind: String,
    value: String,
}

impl FleetLock {
    /// The status and what was said.
    fn post(
        &self,
        cx: &Context,
        path: &str,
        ticket: &Value,
    ) -> Result<(u16, Option<Said>), PoolError> {
        let ticket = Ticket::deserialize(ticket);
        let ticket = ticket.map_err(|error| local(anyhow!("ticket: {error}")))?;
        let ca_file = self.settings.ca_file.as_ref();
        let tls = Tls {
            ca_file: ca_file.map(|file| cx.root.path(file)),
        };
        let body = json!({ "client_params": ticket }).to_string();
        let headers = [
            ("fleet-lock-protocol", "true"),
            ("Content-Type", "application/json"),
        ];
        let answer = Client::new(&self.endpoint, &tls)?.request(
            "POST",
            path,
            &headers,
            Some(body.as_bytes()),
            cx.deadline,
        )?;
        Ok((answer.status, serde_json::from_slice(&answer.body).ok()))
    }

    fn unwanted(&self, path: &str, status: u16, said: Option<&Said>) -> PoolError {
        let kind = match status {
            401 | 403 => PoolErrorKind::Refused,
            429 | 500..=599 => PoolErrorKind::Unreachable,
            _ => PoolErrorKind::BadAnswer,
        };
        let said = said.map_or(String::new(), |said| format!(": {}", one_line(&said.value)));
        let address = &self.endpoint;
        PoolError::new(
            kind,
            anyhow!("{address}: POST {path}: status {status}{said}"),
        )
    }
}

/// The same for one host at all times, and tells its machine id to nobody: the name, and a hash (FNV-1a) of that id.
fn identity(cx: &Context) -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().into_owned();
    let machine = cx.root.read("/etc/machine-id", 64).unwrap_or_default();
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = machine
        .trim()
        .bytes()
        .chain(*b"drainctl")
        .fold(0xcbf2_9ce4_8422_2325, step);
    format!("{host}-{hash:016x}")
}

impl Fleet for FleetLock {
    fn view(&self, _cx: &Context) -> Result<View, PoolError> {
        Ok(View {
            group: self.settings.group.clone(),
            slots: None,
            holders: None,
        })
    }

    fn enroll(&self, cx: &Context, _who: &Holder) -> Result<Value, PoolError> {
        let id = self.settings.id.clone();
        let ticket = Ticket {
            id: id.unwrap_or_else(|| identity(cx)),
            group: self.settings.group.clone(),
        };
        serde_json::to_value(ticket).map_err(local)
    }

    fn take(&self, cx: &Context, ticket: &Value) -> Result<Option<String>, PoolError> {
        let path = "/v1/pre-reboot";
        match self.post(cx, path, ticket)? {
            (200, _) => Ok(None),
            // Servers differ in the status with which they say that all slots are held; the words are the protocol's.
            (status, Some(said)) if !matches!(status, 401 | 403) => Ok(Some(format!(
                "{} ({})",
                one_line(&said.value),
                one_line(&said.kind)
            ))),
            (status, said) => Err(self.unwanted(path, status, said.as_ref())),
        }
    }

    /// The protocol knows no expiry. Asking again shows whether it is still held, and takes it where somebody has freed it.
    fn keep(&self, cx: &Context, ticket: &Value) -> Result<(), PoolError> {
        match self.take(cx, ticket)? {
            None => Ok(()),
            Some(why) => Err(PoolError::new(PoolErrorKind::NotMember, anyhow!(why))),
        }
    }

    fn give_back(&self, cx: &Context, ticket: &Value) -> Result<(), PoolError> {
        let path = "/v1/steady-state";
        match self.post(cx, path, ticket)? {
            (200, _) => Ok(()),
            (status, said) => Err(self.unwanted(path, status, said.as_ref())),
        }
    }

    fn rhythm(&self) -> Duration {
        Duration::from_mins(5)
    }
}
