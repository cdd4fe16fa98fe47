//! AWS target groups: this host's targets are deregistered, each with its port, and registered again as they were.
//!
//! A target that drains gets no new requests; those in flight go on. It stays *draining* for the whole deregistration delay of its group, five
//! minutes by default, even where nothing is left on it: so draining counts as out, and what still arrives is for the settle to see.
//!
//! Groups keep no reason. A target that was not registered when we came is left alone; one that was is registered again, unless somebody did.
//!
//! The role needs `elasticloadbalancing:DescribeTargetHealth`, `RegisterTargets` and `DeregisterTargets`, and `DescribeTargetGroups` where no
//! group is named.

mod credentials;
mod elb;
mod metadata;
mod settings;
mod sign;
mod xml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Context, Health, Kind, Looked, Membership, Peers, Pool, PoolError, PoolErrorKind, Rejoined,
};
use crate::config::FoundPool;
use crate::world::http::{Endpoint, Tls};
use elb::{Elb, Seen, Target};
use metadata::Metadata;
use settings::Settings;

/// The line of AWS's target groups in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "aws-target-group",
    about: "deregisters this host's targets from AWS target groups, and registers them again",
    settings: settings::check,
    build,
    find: Some(find),
};

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let endpoint = settings.endpoint.as_deref().map(Endpoint::parse);
    Ok(Box::new(TargetGroups {
        endpoint: endpoint.transpose().map_err(local)?,
        settings,
        left: Mutex::default(),
    }))
}

/// The groups that this instance of EC2 is in. On anything else nobody is asked.
fn find(cx: &Context, start: &Value) -> Looked {
    let mut looked = Looked::default();
    let text = |path: &str| cx.root.read(path, 1 << 10).unwrap_or_default();
    let is_ec2 = text("/sys/class/dmi/id/sys_vendor").starts_with("Amazon EC2")
        || text("/sys/class/dmi/id/board_vendor").starts_with("Amazon EC2")
        || text("/sys/hypervisor/uuid").starts_with("ec2");
    if !is_ec2 {
        return looked;
    }
    let Ok(settings) = Settings::deserialize(start) else {
        return looked;
    };
    match in_groups(cx, settings) {
        Ok(None) => {}
        Ok(Some(pool)) => looked.found.push(pool),
        Err(error) => looked.remarks.push(format!(
            "this is an instance of EC2, but its target groups can't be asked for: {error}"
        )),
    }
    looked
}

fn in_groups(cx: &Context, settings: Settings) -> Result<Option<FoundPool>, PoolError> {
    let endpoint = settings.endpoint.as_deref().map(Endpoint::parse);
    let pool = TargetGroups {
        endpoint: endpoint.transpose().map_err(local)?,
        settings,
        left: Mutex::default(),
    };
    let own = pool.own(cx, &pool.elb(cx)?, &mut None)?;
    if own.is_empty() {
        return Ok(None);
    }
    let targets = own.iter().flat_map(|(group, targets)| {
        targets.iter().map(|seen| {
            let port = seen.target.port.map(|port| format!(":{port}"));
            let port = port.unwrap_or_default();
            format!("{} as {}{port}", name_of(group), seen.target.id)
        })
    });
    let targets: Vec<String> = targets.collect();
    let arns: Vec<String> = own.into_keys().collect();
    Ok(Some(FoundPool {
        name: KIND.name.to_owned(),
        why: format!(
            "this instance is in the target groups {}",
            targets.join(", ")
        ),
        keys: vec![("target_groups".to_owned(), arns.into())],
    }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct TargetGroups {
    settings: Settings,
    endpoint: Option<Endpoint>,
    /// The groups that were left: once a target is gone from one, nothing there tells that it ever was in it.
    left: Mutex<BTreeSet<String>>,
}

/// What a receipt keeps, by the group's ARN.
#[derive(Default, Serialize, Deserialize)]
struct Before {
    /// The targets that were registered, so that we take them out.
    registered: BTreeMap<String, Vec<Target>>,
    /// The groups named in the config in which none was.
    #[serde(default)]
    absent: BTreeSet<String>,
}

impl Before {
    fn read(before: &Value) -> Result<Self, PoolError> {
        Self::deserialize(before).map_err(|error| local(anyhow!("receipt: {error}")))
    }
}

impl Before {
    fn knows(&self, group: &str) -> bool {
        self.registered.contains_key(group) || self.absent.contains(group)
    }
}

/// This host's targets in one group, as the group sees them.
type Own = Vec<Seen>;

impl TargetGroups {
    fn elb(&self, cx: &Context) -> Result<Elb, PoolError> {
        let ca_file = self.settings.ca_file.as_ref();
        Ok(Elb {
            credentials: credentials::find(&self.settings, cx, &|name| std::env::var(name).ok())?,
            endpoint: self.endpoint.clone(),
            tls: Tls {
                ca_file: ca_file.map(|file| cx.root.path(file)),
            },
            deadline: cx.deadline,
        })
    }

    /// What this host is called where targets have names: the instance's id and its addresses.
    fn names(&self, cx: &Context) -> Result<Vec<String>, PoolError> {
        if !self.settings.targets.is_empty() {
            return Ok(self.settings.targets.clone());
        }
        let metadata = Metadata::open(&self.settings, cx)?;
        let mut names = vec![metadata.line("instance-id")?];
        for path in ["local-ipv4", "ipv6"] {
            let address = metadata.get(path)?.map(|text| text.trim().to_owned());
            names.extend(address.filter(|address| !address.is_empty()));
        }
        Ok(names)
    }

    fn region(&self, cx: &Context) -> Result<String, PoolError> {
        if let Some(region) = &self.settings.region {
            return Ok(region.clone());
        }
        let region = Metadata::open(&self.settings, cx)?.line("placement/region")?;
        if settings::is_region(&region) {
            return Ok(region);
        }
        let what = anyhow!("{}: {region:?} is no region's name", self.settings.metadata);
        Err(PoolError::new(PoolErrorKind::BadAnswer, what))
    }

    /// This host's targets: in the groups that are named and those that were left; without any of them, wherever it is in. The first group that is not
    /// there goes into `missing`; without any other it is an error.
    fn own(
        &self,
        cx: &Context,
        elb: &Elb,
        missing: &mut Option<PoolError>,
    ) -> Result<BTreeMap<String, Own>, PoolError> {
        let names = self.names(cx)?;
        let mut known = self.left().clone();
        known.extend(self.settings.target_groups.iter().cloned());
        if !known.is_empty() {
            let mut seen = BTreeMap::new();
            for group in known {
                match own_of(elb, &group, &names) {
                    Ok(own) => {
                        seen.insert(group, own);
                    }
                    Err(error) if error.kind() == PoolErrorKind::NotMember => {
                        missing.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            return match missing.take_if(|_| seen.is_empty()) {
                Some(error) => Err(error),
                None => Ok(seen),
            };
        }
        let mut found = BTreeMap::new();
        for group in elb.groups(&self.region(cx)?)? {
            match own_of(elb, &group, &names) {
                Ok(own) if own.is_empty() => {}
                Ok(own) => {
                    found.insert(group, own);
                }
                // Deleted while we looked.
                Err(error) if error.kind() == PoolErrorKind::NotMember => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn left(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn own_of(elb: &Elb, group: &str, names: &[String]) -> Result<Own, PoolError> {
    let mut targets = elb.targets(group)?;
    targets.retain(|seen| names.contains(&seen.target.id));
    Ok(targets)
}

/// The name in a group's ARN.
fn name_of(group: &str) -> &str {
    group.rsplit('/').nth(1).unwrap_or(group)
}

/// Whether `target` is registered, by what the group says of itself.
fn is_registered(seen: &[Seen], target: &Target) -> bool {
    seen.iter().any(|seen| {
        (&seen.target.id, seen.target.port) == (&target.id, target.port) && seen.is_registered()
    })
}

impl Pool for TargetGroups {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let mut before = Before::default();
        // A group that is not there keeps us in no other; leaving names it.
        for (group, own) in self.own(cx, &self.elb(cx)?, &mut None)? {
            let registered: Vec<Target> = own
                .into_iter()
                .filter(Seen::is_registered)
                .map(|seen| seen.target)
                .collect();
            if registered.is_empty() {
                before.absent.insert(group);
            } else {
                before.registered.insert(group, registered);
            }
        }
        serde_json::to_value(before).map_err(local)
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        let before = Before::read(before)?;
        self.left().extend(before.registered.keys().cloned());
        let elb = self.elb(cx)?;
        let mut failed = None;
        let named = self.settings.target_groups.iter();
        for group in named.filter(|group| !before.knows(group)) {
            if let Err(error) = elb.targets(group) {
                failed.get_or_insert(error);
            }
        }
        for (group, targets) in &before.registered {
            // One that somebody has taken out by now is not there to be taken out; and one group that fails keeps us in no other.
            let left = elb.targets(group).and_then(|seen| {
                let still: Vec<&Target> = targets
                    .iter()
                    .filter(|target| is_registered(&seen, target))
                    .collect();
                if still.is_empty() {
                    return Ok(());
                }
                elb.deregister(group, &still)
            });
            if let Err(error) = left {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        let mut missing = None;
        let own = self.own(cx, &self.elb(cx)?, &mut missing)?;
        if let Some(error) = missing {
            return Err(error);
        }
        Ok(if own.is_empty() {
            Membership::NotMember
        } else if own.values().flatten().any(Seen::is_registered) {
            Membership::In
        } else {
            Membership::Out
        })
    }

    fn health(&self, _cx: &Context, _before: &Value) -> Result<Health, PoolError> {
        // A target that is not registered is not checked.
        Ok(Health::Passing)
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let before = Before::read(before)?;
        self.left().extend(before.registered.keys().cloned());
        let elb = self.elb(cx)?;
        let mut failed = None;
        for (group, targets) in &before.registered {
            let back = elb.targets(group).and_then(|seen| {
                let gone: Vec<&Target> = targets
                    .iter()
                    .filter(|target| !is_registered(&seen, target))
                    .collect();
                if gone.is_empty() {
                    return Ok(());
                }
                elb.register(group, &gone)
            });
            match back {
                Ok(()) => {}
                // A group that is gone has nothing of ours.
                Err(error) if error.kind() == PoolErrorKind::NotMember => {
                    self.left().remove(group);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let mut others = Vec::new();
        if !before.absent.is_empty() {
            let names = self.names(cx)?;
            for group in &before.absent {
                match own_of(&elb, group, &names) {
                    Ok(own) if own.iter().any(Seen::is_registered) => {}
                    Ok(_) => others.push(format!(
                        "{}: not registered before the drain",
                        name_of(group)
                    )),
                    Err(error) if error.kind() == PoolErrorKind::NotMember => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(if others.is_empty() {
            Rejoined::Restored
        } else {
            Rejoined::LeftAlone(others.join("; "))
        })
    }

    fn peers(&self, cx: &Context) -> Result<Peers, PoolError> {
        let (elb, names) = (self.elb(cx)?, self.names(cx)?);
        let mut peers = Peers::Untold;
        for (group, own) in self.own(cx, &elb, &mut None)? {
            if !own.iter().any(Seen::is_registered) {
                continue;
            }
            let mut others = elb.targets(&group)?;
            others.retain(|seen| !names.contains(&seen.target.id));
            let ids = |of: &dyn Fn(&&Seen) -> bool| {
                let ids = others.iter().filter(of).map(|seen| &seen.target.id);
                ids.collect::<BTreeSet<_>>().len() as u64
            };
            let healthy = ids(&|seen| seen.state == "healthy");
            peers = peers.scarcer(healthy, ids(&|_| true), name_of(&group));
        }
        Ok(peers)
    }
}
