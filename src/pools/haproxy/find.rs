//! HAProxy on this host, where one of its servers is this host beside others.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use super::runtime::Runtime;
use crate::config::FoundPool;
use crate::pools::{Context, Looked};
use crate::world::dial::Address;
use crate::world::{Root, proc};

/// The sockets of the HAProxy processes that run here, asked for their servers.
pub(super) fn find(cx: &Context, _: &Value) -> Looked {
    let mut looked = Looked::default();
    let (Ok(sockets), Ok(own)) = (sockets(&cx.root), proc::addresses(&cx.root)) else {
        return looked;
    };
    // Processes that have the same servers are one pool.
    let mut pools: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for socket in sockets {
        let Ok(address) = Address::parse(&socket) else {
            continue;
        };
        let runtime = Runtime {
            address: &address,
            cx,
        };
        // Not every socket of HAProxy's is one for orders.
        let Ok(backends) = runtime.addresses() else {
            continue;
        };
        let mut servers = Vec::new();
        for (backend, members) in backends {
            let is_ours = |address: &String| address.parse().is_ok_and(|ip| own.contains(&ip));
            let ours: Vec<&String> = members
                .iter()
                .filter_map(|(name, address)| is_ours(address).then_some(name))
                .collect();
            if ours.is_empty() {
                continue;
            }
            if ours.len() == members.len() {
                looked.remarks.push(format!(
                    "{socket}: HAProxy sends the backend {backend} to this host alone: drained there, it would refuse its clients"
                ));
            } else {
                servers.extend(ours.into_iter().map(|name| format!("{backend}/{name}")));
            }
        }
        if !servers.is_empty() {
            pools.entry(servers).or_default().push(socket);
        }
    }
    for (at, (servers, sockets)) in pools.into_iter().enumerate() {
        let named = servers.join(", ");
        let mut keys = vec![
            ("socket".to_owned(), sockets.clone().into()),
            ("servers".to_owned(), servers.into()),
        ];
        if let [socket] = &sockets[..] {
            keys[0].1 = socket.clone().into();
        }
        let mut name = "haproxy".to_owned();
        if at > 0 {
            name.push_str(&format!("-{}", at + 1));
            keys.insert(0, ("type".to_owned(), "haproxy".into()));
        }
        looked.found.push(FoundPool {
            name,
            why: format!(
                "{}: HAProxy's servers {named} are this host",
                sockets.join(", ")
            ),
            keys,
        });
    }
    looked
}

/// The paths on which processes called haproxy listen.
fn sockets(root: &Root) -> io::Result<Vec<String>> {
    let listening = proc::unix_listeners(root)?;
    let mut found = Vec::new();
    for pid in proc::pids(root)? {
        if proc::name(root, pid)?.as_deref() != Some("haproxy") {
            continue;
        }
        let open = proc::socket_inodes(root, pid)?;
        let paths = listening.iter().filter(|(inode, _)| open.contains(inode));
        found.extend(paths.map(|(_, path)| proc::settled(path).to_owned()));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
