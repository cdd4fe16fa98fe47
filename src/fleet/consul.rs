//! Slots in Consul: a semaphore in its KV, held by sessions.
//!
//! The layout is that of Consul's own semaphore (`consul lock -n`): an entry `.lock` with the holders, and beside it an entry a holder, which is
//! there as long as its session is.
//!
//! Nobody runs on a host while it reboots, so nobody renews its session; and a session that belongs to the host's own node ends with it, since an agent
//! that is stopped takes its node out of the catalog. So the sessions belong to a node of their own, which has no agent and no checks, and live as long
//! as `expire` without a word from the holder. Only the leader's clock counts: no host's is trusted, and a new leader begins anew, so that nobody loses
//! a slot to an election. Consul ends a session after `expire`, at the latest after twice that.
//!
//! A token needs `key_prefix "PREFIX/"` write, `session "drainctl-fleet"` write and `node "drainctl-fleet"` write; for a share of the hosts also `service`
//! and `node` read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::semaphore::{Entry, Verdict};
use super::{Fleet, Held, Holder, Kind, Slots, View};
use crate::config::{Section, duration};
use crate::pools::{Context, PoolError, PoolErrorKind, check_secret_file, one_line, read_secret};
use crate::world::http::{Client, Endpoint, Tls, encode};

/// Consul's line in the table of fleets.
pub(super) const KIND: Kind = Kind {
    name: "consul",
    settings,
    build,
};

/// The node that the sessions belong to.
const NODE: &str = "drainctl-fleet";
/// An address that nobody has (RFC 5737).
const ADDRESS: &str = "192.0.2.1";
/// What Consul's own semaphore marks its entries with.
const FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;
/// Consul's bounds for a session's life.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(24);

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    address: String,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    ca_file: Option<PathBuf>,
    group: String,
    slots: Slots,
    service: Option<String>,
    #[serde(with = "duration")]
    expire: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            token_file: None,
            token_env: None,
            ca_file: None,
            group: "default".to_owned(),
            slots: Slots::Count(1),
            service: None,
            expire: Duration::from_mins(30),
        }
    }
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Endpoint::parse(&settings.address) {
        section.fault("address", error);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if settings.group.is_empty() || !settings.group.chars().all(allowed) {
        section.fault("group", "must be made of letters, digits, `.`, `_` and `-`");
    }
    if let (Slots::Percent(_), None) = (settings.slots, &settings.service) {
        section.fault("slots", "a share needs `service`: whose hosts are counted");
    }
    if settings.expire < SHORTEST || settings.expire > LONGEST {
        section.fault("expire", "must be between 10s and 24h, as Consul has it");
    }
    if let Some(name) = &settings.token_env
        && !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    {
        section.fault("token_env", "must be the name of an environment variable");
    }
    if let Some(file) = &settings.token_file {
        check_secret_file(section, "token_file", file);
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> Result<Box<dyn Fleet>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let endpoint = Endpoint::parse(&settings.address).map_err(local)?;
    Ok(Box::new(Consul { settings, endpoint }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct Consul {
    settings: Settings,
    endpoint: Endpoint,
}

/// What a slot is held by.
#[derive(Serialize, Deserialize)]
struct Ticket {
    session: String,
}

/// One entry of the KV.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    value: Option<String>,
    session: Option<String>,
    modify_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: String,
}

/// What stands in the KV.
struct Seen {
    entry: Entry,
    /// 0 where it is not there yet.
    index: u64,
    alive: BTreeSet<String>,
    who: BTreeMap<String, Holder>,
}

/// The calls of one operation.
struct Calls<'a> {
    consul: &'a Consul,
    cx: &'a Context,
    client: Client,
    token: Option<String>,
}

impl Consul {
    fn calls<'a>(&'a self, cx: &'a Context) -> Result<Calls<'a>, PoolError> {
        let ca_file = self.settings.ca_file.as_ref();
        let tls = Tls {
            ca_file: ca_file.map(|file| cx.root.path(file)),
        };
        let token = match (&self.settings.token_file, &self.settings.token_env) {
            (Some(file), _) => Some(read_secret(cx, file)?),
            (None, Some(name)) => match std::env::var(name).unwrap_or_default().trim() {
                "" => return Err(local(anyhow!("${name}: not set, or no readable text"))),
                token => Some(token.to_owned()),
            },
            (None, None) => None,
        };
        Ok(Calls {
            consul: self,
            cx,
            client: Client::new(&self.endpoint, &tls)?,
            token,
        })
    }

    fn prefix(&self) -> String {
        format!("drainctl/fleet/{}", self.settings.group)
    }
}

impl Calls<'_> {
    fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String), PoolError> {
        let header = self.token.as_deref().map(|token| ("X-Consul-Token", token));
        let body = body.map(Value::to_string);
        let body = body.as_deref().map(str::as_bytes);
        let deadline = self.cx.deadline;
        let answer = self
            .client
            .request(method, path, header.as_slice(), body, deadline)?;
        let text = String::from_utf8_lossy(&answer.body);
        // A server may echo what it got.
        let text = match &self.token {
            Some(token) => text.replace(token, "[token]"),
            None => text.into_owned(),
        };
        if matches!(answer.status, 200 | 404) {
            return Ok((answer.status, text));
        }
        let kind = match answer.status {
            401 | 403 => PoolErrorKind::Refused,
            429 | 500..=599 => PoolErrorKind::Unreachable,
            _ => PoolErrorKind::BadAnswer,
        };
        let said = one_line(&text);
        let status = answer.status;
        Err(PoolError::new(
            kind,
            anyhow!("{method} {path}: status {status}: {said}"),
        ))
    }

    fn read<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, PoolError> {
        serde_json::from_str(text).map_err(|error| {
            let error = one_line(&error.to_string());
            PoolError::new(PoolErrorKind::BadAnswer, anyhow!("{path}: {error}"))
        })
    }

    fn put(&self, path: &str, body: Option<&Value>) -> Result<String, PoolError> {
        match self.call("PUT", path, body)? {
            (200, text) => Ok(text.trim().to_owned()),
            (_, text) => Err(PoolError::new(
                PoolErrorKind::NotMember,
                anyhow!("PUT {path}: {}", one_line(&text)),
            )),
        }
    }

    fn seen(&self) -> Result<Seen, PoolError> {
        let prefix = self.consul.prefix();
        let path = format!("/v1/kv/{prefix}/?recurse");
        let pairs: Vec<Pair> = match self.call("GET", &path, None)? {
            (200, text) => Self::read(&path, &text)?,
            _ => Vec::new(),
        };
        let mut seen = Seen {
            entry: Entry::default(),
            index: 0,
            alive: BTreeSet::new(),
            who: BTreeMap::new(),
        };
        for pair in pairs {
            let value = STANDARD
                .decode(pair.value.unwrap_or_default())
                .unwrap_or_default();
            let name = pair.key.strip_prefix(&prefix).unwrap_or_default();
            if name == "/.lock" {
                seen.index = pair.modify_index;
                let text = String::from_utf8_lossy(&value);
                seen.entry = Self::read(&path, &text)?;
            } else if let Some(session) = pair.session {
                if let Ok(who) = serde_json::from_slice(&value) {
                    seen.who.insert(session.clone(), who);
                }
                seen.alive.insert(session);
            }
        }
        Ok(seen)
    }

    /// How many there are.
    fn slots(&self) -> Result<u64, PoolError> {
        let settings = &self.consul.settings;
        let (Slots::Percent(_), Some(service)) = (settings.slots, &settings.service) else {
            return Ok(settings.slots.of(0));
        };
        let path = format!("/v1/catalog/service/{}", encode(service));
        let instances: Vec<Instance> = match self.call("GET", &path, None)? {
            (200, text) => Self::read(&path, &text)?,
            _ => Vec::new(),
        };
        let hosts: BTreeSet<String> = instances.into_iter().map(|one| one.node).collect();
        Ok(settings
            .slots
            .of(u64::try_from(hosts.len()).unwrap_or(u64::MAX)))
    }

    fn swap(&self, seen: &Seen, entry: &Entry) -> Result<bool, PoolError> {
        let prefix = self.consul.prefix();
        let index = seen.index;
        let body = serde_json::to_value(entry).map_err(local)?;
        let path = format!("/v1/kv/{prefix}/.lock?cas={index}&flags={FLAGS}");
        Ok(self.put(&path, Some(&body))? == "true")
    }

    /// A session that lives without a word for as long as the settings say.
    fn session(&self, who: &Holder) -> Result<String, PoolError> {
        let body = json!({
            "Name": format!("drainctl: {} ({})", self.consul.settings.group, who.host),
            "Node": NODE,
            "Checks": [],
            "NodeChecks": [],
            "TTL": format!("{}s", self.consul.settings.expire.as_secs()),
            "Behavior": "delete",
        });
        let path = "/v1/session/create";
        let made = match self.put(path, Some(&body)) {
            // The node is not there yet.
            Err(error) if error.to_string().contains("issing node") => {
                let node = json!({
                    "Node": NODE,
                    "Address": ADDRESS,
                    "NodeMeta": { "external-node": "true", "external-probe": "false" },
                });
                self.put("/v1/catalog/register", Some(&node))?;
                self.put(path, Some(&body))?
            }
            made => made?,
        };
        Ok(Self::read::<Created>(path, &made)?.id)
    }
}

fn ticket(ticket: &Value) -> Result<String, PoolError> {
    let read = Ticket::deserialize(ticket);
    let session = read
        .map_err(|error| local(anyhow!("ticket: {error}")))?
        .session;
    // It becomes part of paths.
    let plain = session
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-');
    plain
        .then_some(session)
        .ok_or_else(|| local(anyhow!("ticket: no session")))
}

impl Fleet for Consul {
    fn view(&self, cx: &Context) -> Result<View, PoolError> {
        let calls = self.calls(cx)?;
        let slots = calls.slots()?;
        let seen = calls.seen()?;
        let held = seen.entry.living(&seen.alive).map(|session| Held {
            ticket: json!({ "session": session }),
            who: seen.who.get(session).cloned(),
        });
        Ok(View {
            group: self.settings.group.clone(),
            slots: Some(slots),
            holders: Some(held.collect()),
        })
    }

    fn enroll(&self, cx: &Context, who: &Holder) -> Result<Value, PoolError> {
        let calls = self.calls(cx)?;
        let session = calls.session(who)?;
        let prefix = self.prefix();
        let path = format!("/v1/kv/{prefix}/{session}?acquire={session}&flags={FLAGS}");
        let body = serde_json::to_value(who).map_err(local)?;
        if calls.put(&path, Some(&body))? != "true" {
            let what = anyhow!("{path}: Consul does not let the session hold it");
            return Err(PoolError::new(PoolErrorKind::BadAnswer, what));
        }
        serde_json::to_value(Ticket { session }).map_err(local)
    }

    fn take(&self, cx: &Context, held_by: &Value) -> Result<Option<String>, PoolError> {
        let session = ticket(held_by)?;
        let calls = self.calls(cx)?;
        let slots = calls.slots()?;
        let seen = calls.seen()?;
        if !seen.alive.contains(&session) {
            let what = anyhow!("the session {session} has ended");
            return Err(PoolError::new(PoolErrorKind::NotMember, what));
        }
        Ok(match seen.entry.judge(&seen.alive, &session, slots) {
            Verdict::Held => None,
            Verdict::Full => Some(format!("all {slots} slots are held")),
            Verdict::Free(entry) if calls.swap(&seen, &entry)? => None,
            // Not tried again at once: a thousand who do would keep each other from it.
            Verdict::Free(_) => Some("others were faster".to_owned()),
        })
    }

    fn keep(&self, cx: &Context, held_by: &Value) -> Result<(), PoolError> {
        let session = ticket(held_by)?;
        let path = format!("/v1/session/renew/{session}");
        self.calls(cx)?.put(&path, None).map(drop)
    }

    fn give_back(&self, cx: &Context, held_by: &Value) -> Result<(), PoolError> {
        let session = ticket(held_by)?;
        let calls = self.calls(cx)?;
        loop {
            let seen = calls.seen()?;
            let Some(rest) = seen.entry.without(&session) else {
                break;
            };
            if calls.swap(&seen, &rest)? {
                break;
            }
            if cx.deadline.passed() {
                let what = anyhow!("others change the slots all the time");
                return Err(PoolError::new(PoolErrorKind::TimedOut, what));
            }
        }
        // Its entry ends with it.
        calls
            .put(&format!("/v1/session/destroy/{session}"), None)
            .map(drop)
    }

    fn rhythm(&self) -> Duration {
        self.settings.expire / 3
    }
}
