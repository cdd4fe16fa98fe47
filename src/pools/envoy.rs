//! Envoy in front of this host's programs: its health checks fail, over its admin interface.
//!
//! From then on Envoy answers the checks of those who send it traffic with 503 (where the health check filter is in use), tells them so in every answer,
//! and closes each HTTP/1.1 connection with its next one. Requests are still served.
//!
//! Where listeners are excepted from that (`drain_type: MODIFY_ONLY`), they can be drained too: connections are closed one after the other over Envoy's own drain
//! time, and listeners are never. It can't be undone: until Envoy is started again, its connections don't live long. Versions that would close their
//! listeners in the end are not asked for it.
//!
//! Envoy keeps neither a reason nor, across its own restart, the state: one that fails its checks when we come does so for somebody else.

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::mark::one_line;
use super::{Context, Health, Kind, Looked, Membership, Pool, PoolError, PoolErrorKind, Rejoined};
use crate::config::{FoundPool, Section};
use crate::world::http::{Client, Endpoint, Tls};
use crate::world::proc;

/// Envoy's line in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "envoy",
    about: "lets the health checks of this host's Envoy fail, over its admin interface",
    settings,
    build,
    find: Some(find),
};

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    address: String,
    drain_listeners: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:9901".to_owned(),
            drain_listeners: false,
        }
    }
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Endpoint::parse(&settings.address) {
        section.fault("address", error);
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let admin = Endpoint::parse(&settings.address).map_err(local)?;
    Ok(Box::new(Envoy {
        admin,
        drain_listeners: settings.drain_listeners,
    }))
}

/// Where Envoy's own documentation, Istio and Consul Connect have the admin interface.
const USUAL: [u16; 3] = [9901, 15000, 19000];

/// An Envoy that runs here, and answers.
fn find(cx: &Context, _: &Value) -> Looked {
    let mut looked = Looked::default();
    for port in USUAL {
        // Nobody else is asked anything.
        if !matches!(proc::listens(&cx.root, port, "envoy"), Ok(true)) {
            continue;
        }
        let address = format!("http://127.0.0.1:{port}");
        let settings = json!({ "address": address });
        let state = build(&settings).and_then(|pool| pool.status(cx));
        let why = format!("Envoy's admin interface answers at {address}");
        match state {
            Ok(_) => looked.found.push(FoundPool {
                name: "envoy".to_owned(),
                why,
                keys: vec![("address".to_owned(), address.into())],
            }),
            Err(error) => looked
                .remarks
                .push(format!("Envoy runs here, but: {error}")),
        }
    }
    looked.found.truncate(1);
    looked
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct Envoy {
    admin: Endpoint,
    drain_listeners: bool,
}

/// What a receipt keeps.
#[derive(Serialize, Deserialize)]
struct Before {
    /// Whether its checks failed already.
    failing: bool,
}

impl Before {
    fn read(before: &Value) -> Result<Self, PoolError> {
        Self::deserialize(before).map_err(|error| local(anyhow!("receipt: {error}")))
    }
}

#[derive(Deserialize)]
struct ServerInfo {
    state: String,
}

impl Envoy {
    fn call(&self, cx: &Context, method: &str, path: &str) -> Result<Vec<u8>, PoolError> {
        let client = Client::new(&self.admin, &Tls::default())?;
        let answer = client.request(method, path, &[], None, cx.deadline)?;
        let kind = match answer.status {
            200 => return Ok(answer.body),
            401 | 403 => PoolErrorKind::Refused,
            429 | 500..=599 => PoolErrorKind::Unreachable,
            _ => PoolErrorKind::BadAnswer,
        };
        let (admin, status) = (&self.admin, answer.status);
        let said = one_line(&String::from_utf8_lossy(&answer.body));
        Err(PoolError::new(
            kind,
            anyhow!("{admin}: {method} {path}: status {status}: {said}"),
        ))
    }

    /// Begins to close connections; only in a way that leaves the listeners open.
    fn drain_listeners(&self, cx: &Context) -> Result<(), PoolError> {
        let help = self.call(cx, "GET", "/help")?;
        if !String::from_utf8_lossy(&help).contains("skip_exit") {
            let what = "this version can only drain its listeners by closing them for good; take drain_listeners out of the config";
            return Err(local(anyhow!("{}: {what}", self.admin)));
        }
        self.call(cx, "POST", "/drain_listeners?graceful&skip_exit")
            .map(drop)
    }

    /// Whether its checks fail, by its own word.
    fn is_failing(&self, cx: &Context) -> Result<bool, PoolError> {
        const PATH: &str = "/server_info";
        let body = self.call(cx, "GET", PATH)?;
        let bad = |what: &str| {
            let what = anyhow!("{}: GET {PATH}: {what}", self.admin);
            PoolError::new(PoolErrorKind::BadAnswer, what)
        };
        let info: ServerInfo =
            serde_json::from_slice(&body).map_err(|error| bad(&one_line(&error.to_string())))?;
        match info.state.as_str() {
            "DRAINING" => Ok(true),
            "LIVE" | "PRE_INITIALIZING" | "INITIALIZING" => Ok(false),
            other => Err(bad(&format!("unknown state {:?}", one_line(other)))),
        }
    }
}

impl Pool for Envoy {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let before = Before {
            failing: self.is_failing(cx)?,
        };
        serde_json::to_value(before).map_err(local)
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        // Its answer to the change says nothing of who answers.
        if Before::read(before)?.failing || self.is_failing(cx)? {
            return Ok(());
        }
        self.call(cx, "POST", "/healthcheck/fail")?;
        if self.drain_listeners {
            return self.drain_listeners(cx);
        }
        Ok(())
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        Ok(if self.is_failing(cx)? {
            Membership::Out
        } else {
            Membership::In
        })
    }

    fn health(&self, _cx: &Context, _before: &Value) -> Result<Health, PoolError> {
        Ok(Health::Passing)
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let before = Before::read(before)?;
        if !self.is_failing(cx)? {
            return Ok(Rejoined::Restored);
        }
        if before.failing {
            let what = "its health checks failed before the drain".to_owned();
            return Ok(Rejoined::LeftAlone(what));
        }
        self.call(cx, "POST", "/healthcheck/ok")?;
        Ok(Rejoined::Restored)
    }
}
