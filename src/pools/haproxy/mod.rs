//! HAProxy: the state of this host's servers, over the runtime socket of each process.
//!
//! A server is drained, or put into maintenance, by `set server`, and comes back by its opposite; weights, checks and agents are not touched.
//! Whether it holds is read where HAProxy itself shows it: the administrative state and the statistics together.
//!
//! HAProxy keeps no reason with a state. What was forced when we came is somebody else's, and so is anything but exactly what we set. After a
//! reload it has forgotten all of it, unless `load-server-state-from-file` is in use.

mod find;
mod runtime;
mod settings;

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Absent, Context, Health, Kind, Membership, Peers, Pool, PoolError, PoolErrorKind, Rejoined,
};
use crate::world::dial::Address;
use runtime::{Admin, Runtime, Server};
use settings::{Leave, Settings};

/// HAProxy's line in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "haproxy",
    about: "drains this host's servers over HAProxy's runtime socket",
    settings: settings::check,
    build,
    find: Some(find::find),
};

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let mut backends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for server in &settings.servers {
        let (backend, name) = settings::split(server)
            .ok_or_else(|| local(anyhow!("{server:?} is not \"backend/server\"")))?;
        let names = backends.entry(backend.to_owned()).or_default();
        names.push(name.to_owned());
    }
    let sockets = settings.sockets().iter();
    Ok(Box::new(Haproxy {
        sockets: sockets
            .map(|socket| Ok((socket.clone(), Address::parse(socket).map_err(local)?)))
            .collect::<Result<_, PoolError>>()?,
        backends,
        leave: settings.leave,
    }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct Haproxy {
    /// With their text as it was written, which receipts use.
    sockets: Vec<(String, Address)>,
    /// The names of the servers, by backend.
    backends: BTreeMap<String, Vec<String>>,
    leave: Leave,
}

/// What a receipt keeps.
#[derive(Serialize, Deserialize)]
struct Before {
    /// What we set.
    leave: Leave,
    /// By socket, then by `backend/server`.
    sockets: BTreeMap<String, BTreeMap<String, ServerBefore>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ServerBefore {
    /// The bits of its administrative state.
    admin: u32,
    /// Whether it was given sessions.
    #[serde(default)]
    up: bool,
}

impl ServerBefore {
    /// Whether nobody had taken it out, so that we do.
    fn is_ours(self) -> bool {
        Admin(self.admin).forced().is_none()
    }
}

impl Before {
    fn read(before: &Value) -> Result<Self, PoolError> {
        Self::deserialize(before).map_err(|error| local(anyhow!("receipt: {error}")))
    }

    fn server(&self, socket: &str, server: &str) -> Option<ServerBefore> {
        self.sockets.get(socket)?.get(server).copied()
    }
}

impl Haproxy {
    /// Calls `each` for every server of every process. What fails in one does not keep the others in; the first error is told.
    fn for_each(
        &self,
        cx: &Context,
        mut each: impl FnMut(&str, &Runtime<'_>, &str, Option<&Server>) -> Result<(), PoolError>,
    ) -> Result<(), PoolError> {
        let mut failed = None;
        for (socket, address) in &self.sockets {
            let runtime = Runtime { address, cx };
            for (backend, names) in &self.backends {
                let servers = match runtime.servers(backend) {
                    Ok(servers) => servers,
                    Err(error) if error.kind() == PoolErrorKind::NotMember => BTreeMap::new(),
                    Err(error) => {
                        failed.get_or_insert(error);
                        continue;
                    }
                };
                for name in names {
                    let server = format!("{backend}/{name}");
                    if let Err(error) = each(socket, &runtime, &server, servers.get(name)) {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn known<'s>(
    socket: &str,
    server: &str,
    seen: Option<&'s Server>,
) -> Result<&'s Server, PoolError> {
    seen.ok_or_else(|| {
        let what = anyhow!("{socket}: HAProxy has no server {server}");
        PoolError::new(PoolErrorKind::NotMember, what)
    })
}

impl Pool for Haproxy {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let mut before = Before {
            leave: self.leave,
            sockets: BTreeMap::new(),
        };
        let all = self.for_each(cx, |socket, _, server, seen| {
            let seen = known(socket, server, seen)?;
            let stood = ServerBefore {
                admin: seen.admin.0,
                up: seen.is_sent_to(),
            };
            let servers = before.sockets.entry(socket.to_owned()).or_default();
            servers.insert(server.to_owned(), stood);
            Ok(())
        });
        match all {
            // A process that is gone, or a server that is named wrongly, keeps us in nowhere else; leaving names it.
            Err(error) if before.sockets.is_empty() || error.kind() == PoolErrorKind::TimedOut => {
                Err(error)
            }
            _ => serde_json::to_value(before).map_err(local),
        }
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        let before = Before::read(before)?;
        self.for_each(cx, |socket, runtime, server, seen| {
            let forced = known(socket, server, seen)?.admin.forced();
            match before.server(socket, server) {
                // What somebody has forced since is theirs, and would be lost.
                Some(stood) if stood.is_ours() && forced.is_none() => {
                    runtime.set(server, Some(before.leave))
                }
                _ => Ok(()),
            }
        })
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        let (mut sent, mut told) = (false, true);
        self.for_each(cx, |socket, _, server, seen| {
            let seen = known(socket, server, seen)?;
            if seen.is_sent_to() {
                sent = true;
                told &= seen.admin.0 != 0;
            }
            Ok(())
        })?;
        Ok(match (sent, told) {
            (false, _) => Membership::Out,
            (true, true) => Membership::Leaving,
            (true, false) => Membership::In,
        })
    }

    fn health(&self, cx: &Context, before: &Value) -> Result<Health, PoolError> {
        let before = Before::read(before)?;
        let mut failing = None;
        self.for_each(cx, |socket, _, server, seen| {
            // One that was down before the drain would hold up the others for ever.
            let expected = before.server(socket, server).is_none_or(|stood| stood.up);
            if let Some(seen) = seen
                && expected
                && !seen.up
                && !seen.is_in_maintenance()
            {
                failing.get_or_insert(format!("{server}: {} {}", seen.status, seen.said));
            }
            Ok(())
        })?;
        Ok(failing.map_or(Health::Passing, Health::Failing))
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let before = Before::read(before)?;
        let mut others = Vec::new();
        self.for_each(cx, |socket, runtime, server, seen| {
            let Some(stood) = before.server(socket, server) else {
                return Ok(());
            };
            // A server that is gone has nothing of ours.
            match seen.and_then(|seen| seen.admin.forced()) {
                None => Ok(()),
                Some(forced) if stood.is_ours() && forced == before.leave => {
                    runtime.set(server, None)
                }
                Some(_) => {
                    let status = seen.map_or("", |seen| seen.status.as_str());
                    others.push(format!("{server}: {status}"));
                    Ok(())
                }
            }
        })?;
        Ok(if others.is_empty() {
            Rejoined::Restored
        } else {
            Rejoined::LeftAlone(others.join("; "))
        })
    }

    fn peers(&self, cx: &Context) -> Result<Peers, PoolError> {
        let mut peers = Peers::Untold;
        for (_, address) in &self.sockets {
            let runtime = Runtime { address, cx };
            for (backend, names) in &self.backends {
                let (mut ours, mut others, mut known) = (false, 0, 0);
                for (name, server) in runtime.servers(backend)? {
                    if names.contains(&name) {
                        ours |= server.is_sent_to();
                    } else {
                        known += 1;
                        others += u64::from(server.is_sent_to());
                    }
                }
                // Where nothing is sent here anyway, nobody is missed.
                if ours {
                    peers = peers.scarcer(others, known, backend);
                }
            }
        }
        Ok(peers)
    }

    fn absent(&self, cx: &Context) -> Result<Vec<Absent>, PoolError> {
        let mut found = Vec::new();
        for (_, address) in &self.sockets {
            let runtime = Runtime { address, cx };
            for (backend, names) in &self.backends {
                let servers = runtime.servers(backend)?.into_iter();
                let out = servers.filter(|(_, server)| !server.is_sent_to());
                found.extend(out.map(|(name, server)| {
                    Absent {
                        here: names.contains(&name),
                        name: format!("{backend}/{name}"),
                        on_purpose: server.is_taken_out(),
                        why: format!("{} {}", server.status, server.said)
                            .trim()
                            .to_owned(),
                        // HAProxy keeps no reason that could tell.
                        by_drainctl: false,
                    }
                }));
            }
        }
        Ok(found)
    }

    fn missing_rights(&self, cx: &Context) -> Result<Vec<String>, PoolError> {
        let mut missing = Vec::new();
        for (socket, address) in &self.sockets {
            // An answer in other words is that of another version: it can't be told.
            let level = Runtime { address, cx }.level()?;
            if matches!(level.as_str(), "user" | "operator") {
                missing.push(format!("level admin on {socket}, whose level is {level}"));
            }
        }
        Ok(missing)
    }
}
