//! Consul: the maintenance mode of this node or of its services.
//!
//! Maintenance is a check that the local agent adds and keeps across its restarts. It is set and lifted at the agent, and read
//! where proxies read: in the catalog's health, always together with the instances that do not pass, because an answer that
//! the token's rights have emptied looks like one without passing instances.
//!
//! A token needs `node:write` for the node or `service:write` for the services, `node:read` and `service:read` to verify, and
//! `agent:read` where the agent has no check at all.

mod agent;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mark::{self, one_line};
use super::{
    Absent, Context, Health, Kind, Membership, Peers, Pool, PoolError, PoolErrorKind, Rejoined,
};
use crate::world::http::{Client, Endpoint, Tls};
use agent::{Agent, Check, Local, Part, refused};
use settings::Settings;

/// Consul's line in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "consul",
    about: "sets the node or its services into maintenance at the local Consul agent",
    settings: settings::check,
    build,
    find: None,
};

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
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

/// What a receipt keeps.
#[derive(Serialize, Deserialize)]
struct Before {
    /// The reason that our maintenance carries.
    mark: String,
    /// The reason of a maintenance of the node that was not ours.
    #[serde(default)]
    maintenance: Option<String>,
    /// By id, those that the token could read; with `services` set, those named.
    services: BTreeMap<String, ServiceBefore>,
}

#[derive(Serialize, Deserialize)]
struct ServiceBefore {
    name: String,
    /// Whether none of its checks was critical.
    #[serde(default)]
    passing: bool,
    /// The reason of a maintenance of the service that was not ours.
    #[serde(default)]
    maintenance: Option<String>,
}

impl Before {
    fn read(before: &Value) -> Result<Self, PoolError> {
        Self::deserialize(before).map_err(|error| local(anyhow!("receipt: {error}")))
    }
}

impl Consul {
    fn whole_node(&self) -> bool {
        self.settings.services.is_empty()
    }

    fn agent(&self, cx: &Context) -> Result<Agent, PoolError> {
        let tls = Tls {
            ca_file: self
                .settings
                .ca_file
                .as_ref()
                .map(|file| cx.root.path(file)),
        };
        Ok(Agent {
            client: Client::new(&self.endpoint, &tls)?,
            token: self.settings.token(cx)?,
            deadline: cx.deadline,
        })
    }

    /// The services that are drained: with none named, all that the token may read.
    fn chosen<'l>(
        &self,
        local: &'l Local,
    ) -> impl Iterator<Item = (&'l str, &'l str)> + use<'l, '_> {
        local
            .services
            .iter()
            .map(|(id, service)| (id.as_str(), service.name.as_str()))
            .filter(|(id, name)| {
                let named = |wanted: &String| wanted == id || wanted == name;
                self.whole_node() || self.settings.services.iter().any(named)
            })
    }

    /// The first of the services named that no one has registered: a service that stays in is not passed over in silence.
    fn missing<'a>(&self, registered: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&str> {
        let registered: Vec<_> = registered.collect();
        self.settings
            .services
            .iter()
            .find(|wanted| {
                !registered
                    .iter()
                    .any(|(id, name)| wanted == id || wanted == name)
            })
            .map(String::as_str)
    }
}

impl Consul {
    /// Why this host gets no traffic here, although nothing of ours stands any more: somebody's maintenance of the node holds for its services,
    /// and one of each service for the node.
    fn kept_out(&self, seen: &Local) -> Vec<String> {
        let theirs = |part| {
            let reason = seen.maintenance(part)?;
            (!mark::is_ours(reason)).then(|| one_line(reason))
        };
        if !self.whole_node() {
            return theirs(Part::Node).into_iter().collect();
        }
        let services = self.chosen(seen).map(|(id, _)| theirs(Part::Service(id)));
        services.collect::<Option<Vec<_>>>().unwrap_or_default()
    }
}

fn not_registered(service: &str) -> PoolError {
    let what = anyhow!("no service {service:?} on this agent that the token may read");
    PoolError::new(PoolErrorKind::NotMember, what)
}

impl Pool for Consul {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let seen = self.agent(cx)?.local()?;
        let mut services: BTreeMap<String, ServiceBefore> = self
            .chosen(&seen)
            .map(|(id, name)| {
                let before = ServiceBefore {
                    name: name.to_owned(),
                    passing: !concerns(&seen, id).any(Check::is_critical),
                    maintenance: seen.maintenance(Part::Service(id)).map(one_line),
                };
                (id.to_owned(), before)
            })
            .collect();
        if services.is_empty()
            && let Some(service) = self.missing(std::iter::empty())
        {
            return Err(not_registered(service));
        }
        let mut maintenance = seen.maintenance(Part::Node).map(one_line);
        let standing = if self.whole_node() {
            maintenance.iter().collect::<Vec<_>>()
        } else {
            services.values().flat_map(|s| &s.maintenance).collect()
        };
        let ours = standing.into_iter().find(|reason| mark::is_ours(reason));
        let mark = ours.cloned().unwrap_or_else(mark::new);
        let foreign = |reason: &String| *reason != mark;
        maintenance = maintenance.filter(foreign);
        for service in services.values_mut() {
            service.maintenance = service.maintenance.take().filter(foreign);
        }
        let before = Before {
            mark,
            maintenance,
            services,
        };
        serde_json::to_value(before).map_err(local)
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        let before = Before::read(before)?;
        let agent = self.agent(cx)?;
        if self.whole_node() {
            return match before.maintenance {
                Some(_) => Ok(()),
                None => agent.set(Part::Node, &before.mark),
            };
        }
        let seen = agent.local()?;
        let registered: Vec<_> = self.chosen(&seen).collect();
        let mut failed = self.missing(registered.iter().copied()).map(not_registered);
        for (id, _) in registered {
            // Not in the receipt: somebody deploys. The mark tells that it is ours.
            let foreign = before
                .services
                .get(id)
                .and_then(|one| one.maintenance.as_ref());
            // One service that can't leave must not keep the others in.
            if foreign.is_none()
                && let Err(error) = agent.set(Part::Service(id), &before.mark)
            {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        let agent = self.agent(cx)?;
        let seen = agent.local()?;
        let node = agent.node(&seen)?;
        let mut judged = Vec::new();
        if self.whole_node() {
            // What stands on the node also holds for the services that the token may not see.
            let checks = agent.node_checks(&node)?;
            let of_node = checks.iter().filter(|check| check.service.is_empty());
            let told = seen.maintenance(Part::Node).is_some();
            let of_node = membership(of_node, told);
            if of_node != Membership::In || self.chosen(&seen).next().is_none() {
                judged.push(of_node);
            }
        } else if let Some(service) = self.missing(self.chosen(&seen)) {
            return Err(not_registered(service));
        }
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (id, name) in self.chosen(&seen) {
            by_name.entry(name).or_default().push(id);
        }
        for (name, ids) in by_name {
            let instances = agent.instances(name)?;
            for id in ids {
                let instance = instances
                    .iter()
                    .find(|one| one.node.name == node && one.service.id == id)
                    .ok_or_else(|| {
                        refused(&format!(
                            "the catalog does not show {id:?} on {node:?}: not in it yet, or the token may not read it"
                        ))
                    })?;
                let told = [Part::Node, Part::Service(id)]
                    .into_iter()
                    .any(|part| seen.maintenance(part).is_some());
                judged.push(membership(instance.checks.iter().flatten(), told));
            }
        }
        Ok(worst(&judged))
    }

    fn health(&self, cx: &Context, before: &Value) -> Result<Health, PoolError> {
        let before = Before::read(before)?;
        let agent = self.agent(cx)?;
        let seen = agent.local()?;
        visible(&agent, &seen, &before)?;
        for (id, _) in self.chosen(&seen) {
            if let Some(check) = concerns(&seen, id).find(|check| check.is_critical()) {
                return Ok(failing(check));
            }
        }
        let mut of_node = seen.checks.values().filter(|check| {
            check.service.is_empty() && !check.is_maintenance() && check.is_critical()
        });
        Ok(of_node.next().map_or(Health::Passing, failing))
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let before = Before::read(before)?;
        let agent = self.agent(cx)?;
        let seen = agent.local()?;
        let mut others = Vec::new();
        let parts: Vec<Part<'_>> = if self.whole_node() {
            vec![Part::Node]
        } else {
            self.chosen(&seen)
                .map(|(id, _)| Part::Service(id))
                .collect()
        };
        for part in parts {
            match seen.maintenance(part) {
                Some(reason) if reason == before.mark => agent.lift(part)?,
                Some(reason) => others.push(one_line(reason)),
                None => {}
            }
        }
        others.extend(self.kept_out(&seen));
        if self.whole_node() {
            // Nothing seen is only nothing there when we may look. What was lifted was seen.
            if seen.maintenance(Part::Node).is_none() {
                agent.node_checks(&agent.node(&seen)?)?;
            }
        } else {
            visible(&agent, &seen, &before)?;
        }
        Ok(if others.is_empty() {
            Rejoined::Restored
        } else {
            Rejoined::LeftAlone(others.join("; "))
        })
    }

    fn peers(&self, cx: &Context) -> Result<Peers, PoolError> {
        let agent = self.agent(cx)?;
        let seen = agent.local()?;
        let node = agent.node(&seen)?;
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (id, name) in self.chosen(&seen) {
            by_name.entry(name).or_default().push(id);
        }
        let mut peers = Peers::Untold;
        for (name, ids) in by_name {
            let (mut ours, mut others, mut known) = (false, 0, 0);
            for instance in agent.instances(name)? {
                let healthy = !instance.checks.iter().flatten().any(Check::is_critical);
                // With single services named, others on this node stay.
                let leaves = self.whole_node() || ids.contains(&instance.service.id.as_str());
                if instance.node.name == node && leaves {
                    ours |= healthy;
                } else {
                    known += 1;
                    others += u64::from(healthy);
                }
            }
            // Where nothing is sent here anyway, nobody is missed.
            if ours {
                peers = peers.scarcer(others, known, name);
            }
        }
        Ok(peers)
    }

    fn absent(&self, cx: &Context) -> Result<Vec<Absent>, PoolError> {
        let agent = self.agent(cx)?;
        let seen = agent.local()?;
        let node = agent.node(&seen)?;
        let mut found: Vec<Absent> = Vec::new();
        let names: BTreeSet<&str> = self.chosen(&seen).map(|(_, name)| name).collect();
        for name in names {
            for instance in agent.instances(name)? {
                let critical = || {
                    let checks = instance.checks.iter().flatten();
                    checks.filter(|check| check.is_critical())
                };
                // In maintenance, whatever else fails does not matter.
                let on_purpose = critical().find(|check| check.is_maintenance());
                let Some(check) = on_purpose.or_else(|| critical().next()) else {
                    continue;
                };
                let why = if on_purpose.is_some() {
                    one_line(&check.notes)
                } else {
                    format!("{}: {}", one_line(&check.name), one_line(&check.output))
                };
                let one = Absent {
                    name: one_line(&instance.node.name),
                    why,
                    on_purpose: on_purpose.is_some(),
                    here: instance.node.name == node,
                    by_drainctl: mark::is_ours(&check.notes),
                };
                // A node stands there once for each of its services.
                if !found.contains(&one) {
                    found.push(one);
                }
            }
        }
        Ok(found)
    }

    fn missing_rights(&self, cx: &Context) -> Result<Vec<String>, PoolError> {
        let agent = self.agent(cx)?;
        let seen = agent.local()?;
        let node = agent.node(&seen)?;
        let names: BTreeSet<&str> = self.chosen(&seen).map(|(_, name)| name).collect();
        let rights = if self.whole_node() {
            vec![("node", node.as_str())]
        } else {
            names.iter().map(|name| ("service", *name)).collect()
        };
        let denied = agent.denied(&rights)?.into_iter();
        Ok(denied
            .map(|(resource, name)| format!("{resource}:write on {name:?}"))
            .collect())
    }
}

/// The checks of one service on the agent, maintenance aside.
fn concerns<'l>(seen: &'l Local, service: &str) -> impl Iterator<Item = &'l Check> {
    seen.checks
        .values()
        .filter(move |check| check.service == service && !check.is_maintenance())
}

/// Services that were there at the leave and are not listed now must be gone, not hidden from a token with fewer rights.
fn visible(agent: &Agent, seen: &Local, before: &Before) -> Result<(), PoolError> {
    for id in before.services.keys() {
        if !seen.services.contains_key(id) {
            agent.is_gone(id)?;
        }
    }
    Ok(())
}

fn failing(check: &Check) -> Health {
    let said = one_line(&check.output);
    Health::Failing(format!("{}: {said}", one_line(&check.name)))
}

/// What the catalog says by these checks; `told` where the agent has been told to leave.
fn membership<'c>(checks: impl Iterator<Item = &'c Check>, told: bool) -> Membership {
    let mut critical = checks.filter(|check| check.is_critical()).peekable();
    let any = critical.peek().is_some();
    if critical.any(Check::is_maintenance) {
        Membership::Out
    } else if told {
        // A check that fails by chance may pass again before the maintenance has reached the catalog.
        Membership::Leaving
    } else if any {
        Membership::Out
    } else {
        Membership::In
    }
}

/// One instance that gets traffic is enough to be in.
fn worst(judged: &[Membership]) -> Membership {
    [Membership::In, Membership::Leaving, Membership::Out]
        .into_iter()
        .find(|one| judged.contains(one))
        .unwrap_or(Membership::In)
}
