//! Any place with an HTTP API: a registry like Eureka or Nacos, a deploy API, a cloud's gateway.
//!
//! Three requests are templates: one tells a value that means in or out, one leaves, one undoes that. The value of before the leave is
//! kept, and may be part of the request that undoes it. Who set a value can't be told but by the value: one that leaving makes is taken for ours
//! at the rejoin, any other that means out for somebody else's.

mod settings;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mark::one_line;
use super::{Context, Health, Kind, Membership, Pool, PoolError, PoolErrorKind, Rejoined, files};
use crate::world::http::{Client, Endpoint, Tls};
use settings::{Settings, Words};

/// The line of HTTP APIs in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "http",
    about: "makes the requests of a registry's or a deploy API that the config describes",
    settings: settings::check,
    build,
    find: None,
};

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let endpoint = Endpoint::parse(&settings.address).map_err(local)?;
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    Ok(Box::new(Http {
        settings,
        endpoint,
        host,
    }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct Http {
    settings: Settings,
    endpoint: Endpoint,
    host: String,
}

/// What a receipt keeps.
#[derive(Serialize, Deserialize)]
struct Before {
    /// The status value as text.
    value: String,
    /// Whether that meant out: somebody else was faster.
    #[serde(default)]
    out: bool,
}

impl Before {
    fn read(before: &Value) -> Result<Self, PoolError> {
        Self::deserialize(before).map_err(|error| local(anyhow!("receipt: {error}")))
    }
}

/// What the place says now.
struct Seen {
    membership: Membership,
    /// Whether it is what leaving makes.
    is_left: bool,
    /// The value as text, with no secret in it.
    value: String,
}

/// An answer with no secret in it.
struct Answer {
    status: u16,
    body: String,
    secrets: Vec<String>,
}

impl Http {
    fn call(
        &self,
        cx: &Context,
        request: &str,
        body: Option<&str>,
        before: Option<&Before>,
    ) -> Result<Answer, PoolError> {
        let (method, path) = settings::split(request)
            .ok_or_else(|| local(anyhow!("{request:?} is no request like \"PUT /path\"")))?;
        let words = Words {
            host: self.host.clone(),
            before: before.map(|before| before.value.clone()),
        };
        let ca_file = self.settings.ca_file.as_ref();
        let tls = Tls {
            ca_file: ca_file.map(|file| cx.root.path(file)),
        };
        let mut secrets = Vec::new();
        for (name, file) in &self.settings.header_files {
            secrets.push((name.as_str(), files::read_secret(cx, file)?));
        }
        let plain = self.settings.headers.iter();
        let headers: Vec<(&str, &str)> = plain
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(secrets.iter().map(|(name, value)| (*name, value.as_str())))
            .collect();
        let body = body.map(|body| words.in_body(body));
        let answer = Client::new(&self.endpoint, &tls)?.request(
            method,
            &words.in_path(path),
            &headers,
            body.as_ref().map(String::as_bytes),
            cx.deadline,
        )?;
        // A server may echo a header, or only the part of it behind "Bearer".
        let secrets: Vec<String> = secrets
            .iter()
            .flat_map(|(_, value)| [value.as_str()].into_iter().chain(value.split_whitespace()))
            .map(str::to_owned)
            .collect();
        Ok(Answer {
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
            secrets,
        })
    }

    fn unwanted(&self, request: &str, answer: &Answer) -> PoolError {
        let kind = match answer.status {
            401 | 403 => PoolErrorKind::Refused,
            404 | 410 => PoolErrorKind::NotMember,
            429 | 500..=599 => PoolErrorKind::Unreachable,
            _ => PoolErrorKind::BadAnswer,
        };
        let status = answer.status;
        let said = one_line(&answer.hide(&answer.body));
        let address = &self.endpoint;
        PoolError::new(
            kind,
            anyhow!("{address}: {request}: status {status}: {said}"),
        )
    }

    fn change(
        &self,
        cx: &Context,
        request: &str,
        body: Option<&str>,
        before: &Before,
    ) -> Result<(), PoolError> {
        let answer = self.call(cx, request, body, Some(before))?;
        let accepted = if self.settings.accept.is_empty() {
            (200..300).contains(&answer.status)
        } else {
            self.settings.accept.contains(&answer.status)
        };
        if accepted {
            return Ok(());
        }
        Err(self.unwanted(request, &answer))
    }

    fn look(&self, cx: &Context) -> Result<Seen, PoolError> {
        let Settings {
            status: request,
            pointer,
            out,
            r#in,
            ..
        } = &self.settings;
        let answer = self.call(cx, request, None, None)?;
        let bad = |what: &str| {
            let what = anyhow!("{}: {request}: {what}", self.endpoint);
            PoolError::new(PoolErrorKind::BadAnswer, what)
        };
        let fine = (200..300).contains(&answer.status);
        let value = match pointer {
            None => Value::from(answer.status),
            Some(_) if !fine => return Err(self.unwanted(request, &answer)),
            Some(pointer) => {
                let body: Value =
                    serde_json::from_str(&answer.body).map_err(|_| bad("not JSON"))?;
                let value = body.pointer(pointer).cloned();
                value.ok_or_else(|| bad(&format!("nothing at {pointer}")))?
            }
        };
        let text = match &value {
            Value::String(text) => answer.hide(text),
            other => answer.hide(&other.to_string()),
        };
        let is = |wanted: &Value| same(wanted, &value);
        let membership = if out.iter().any(is) {
            Membership::Out
        } else if r#in.iter().any(is) || r#in.is_empty() && fine {
            Membership::In
        } else if pointer.is_none() {
            return Err(self.unwanted(request, &answer));
        } else {
            let what = format!("{:?} is neither in nor out", one_line(&text));
            return Err(bad(&what));
        };
        Ok(Seen {
            membership,
            is_left: out.first().is_some_and(is),
            value: one_line(&text),
        })
    }
}

impl Answer {
    fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret, "[secret]")
        })
    }
}

/// Numbers are the same however they are written.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}

impl Pool for Http {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let seen = self.look(cx)?;
        let before = Before {
            out: seen.membership == Membership::Out,
            value: seen.value,
        };
        serde_json::to_value(before).map_err(local)
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        let before = Before::read(before)?;
        // Out by now is our own work, or somebody else's, which would be lost.
        if before.out || self.look(cx)?.membership == Membership::Out {
            return Ok(());
        }
        let Settings {
            leave, leave_body, ..
        } = &self.settings;
        self.change(cx, leave, leave_body.as_deref(), &before)
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        Ok(self.look(cx)?.membership)
    }

    fn health(&self, _cx: &Context, _before: &Value) -> Result<Health, PoolError> {
        Ok(Health::Passing)
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let before = Before::read(before)?;
        let seen = self.look(cx)?;
        if seen.membership != Membership::Out {
            return Ok(Rejoined::Restored);
        }
        if before.out || !seen.is_left {
            return Ok(Rejoined::LeftAlone(seen.value));
        }
        let Settings {
            rejoin,
            rejoin_body,
            ..
        } = &self.settings;
        self.change(cx, rejoin, rejoin_body.as_deref(), &before)?;
        Ok(Rejoined::Restored)
    }
}
