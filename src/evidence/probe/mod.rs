//! Finds out what is spoken on the target's ports. Runs at `install` and `doctor`, and what it found is kept; a drain asks where that is none
//! or old, beside its looks, and waits for no answer.

mod beside;
mod door;
mod hybrid;
mod kept;
mod plain;
mod shake;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

pub use beside::Beside;
pub use kept::{Kept, PROBED_AGAIN, Port};

use super::Listener;
use super::spoken::{Handshake, Spoken, Transport};
use crate::world::{Deadline, Root};
use door::Door;
use shake::{Offer, Shake};

/// One port has this long.
const LIMIT: Duration = Duration::from_secs(4);
/// So many ports are probed; a target that listens on more is rare, and the rest stays unknown.
const MOST: usize = 64;

/// What is spoken at `address`, by up to five short connections: a TLS handshake that offers HTTP/2, one that does not, one that
/// resumes its session, the hello of one with post-quantum keys alone; without TLS, the preface of HTTP/2. [`Transport::Unknown`] where nobody answered in time.
#[must_use]
pub fn probe(address: SocketAddr, deadline: Deadline) -> Spoken {
    ask(&Door::open(reachable(address)), deadline)
}

fn ask(door: &Door, deadline: Deadline) -> Spoken {
    let both = Offer::new(&[b"h2", b"http/1.1"]);
    match both.shake(door, deadline) {
        Shake::Done(first) => over_tls(door, &both, &first, deadline),
        Shake::Refused | Shake::Silent | Shake::Unreached => Spoken::default(),
        Shake::Plain { http1 } => without_tls(door, http1, deadline),
    }
}

fn over_tls(door: &Door, both: &Offer, first: &shake::Done, deadline: Deadline) -> Spoken {
    let older = Offer::new(&[b"http/1.1"]);
    let (offer, full, http1) = if first.http2 {
        match older.shake(door, deadline) {
            // Its handshake is not followed by the frames with which HTTP/2 begins.
            Shake::Done(done) => (&older, done, true),
            // The port was closed meanwhile, or refused by a firewall: that says nothing of the server.
            Shake::Unreached => return Spoken::default(),
            _ => (both, *first, false),
        }
    } else {
        (both, *first, true)
    };
    let resumed = match offer.shake(door, deadline) {
        Shake::Done(done) if done.resumed => Some(done),
        Shake::Unreached => return Spoken::default(),
        _ => None,
    };
    Spoken {
        transport: Transport::Tls(Handshake {
            newer: full.newer,
            asks_certificate: full.asks_certificate,
            early_data: resumed.is_some_and(|done| done.early_data),
            hybrid_keys: full.newer && hybrid::is_taken(door, deadline),
            full: full.flight,
            resumed: resumed.map(|done| done.flight),
        }),
        http1,
        http2: first.http2,
        greeting: first.greeting,
    }
}

fn without_tls(door: &Door, http1: bool, deadline: Deadline) -> Spoken {
    let Ok(greeting) = plain::preface(door, deadline) else {
        return Spoken::default();
    };
    let http2 = greeting.is_some();
    Spoken {
        transport: Transport::Plain,
        // Whoever answers neither speaks something else, one thing after another.
        http1: http1 || !http2,
        http2,
        greeting: greeting.unwrap_or_default(),
    }
}

/// A listener on all addresses is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Probes those of `listeners` that are not kept yet, or for longer than `age`, all at once, and keeps what was found, unless that was
/// known. What is known then; a port that did not answer stays as it was.
///
/// # Errors
/// It could not be kept.
pub fn refresh(root: &Root, listeners: &[Listener], age: Duration) -> std::io::Result<Kept> {
    let mut kept = Kept::read(root);
    let mut asked: Vec<&Listener> = Vec::new();
    for listener in listeners {
        let twice = |other: &&Listener| Kept::same(other, listener);
        if !kept.is_fresh(listener, age) && !asked.iter().any(twice) && asked.len() < MOST {
            asked.push(listener);
        }
    }
    let deadline = Deadline::after(LIMIT);
    let (tell, told) = mpsc::channel();
    for (at, listener) in asked.iter().enumerate() {
        let (tell, local) = (tell.clone(), listener.local);
        std::thread::Builder::new()
            .name("probe".into())
            .spawn(move || tell.send((at, probe(local, deadline))))?;
    }
    drop(tell);
    // Nothing is joined: each probe ends by its own deadline, and this wait by the same.
    let mut changed = false;
    while let Ok((at, spoken)) = told.recv_timeout(deadline.left()) {
        if spoken.transport != Transport::Unknown {
            changed |= kept.put(asked[at], spoken);
        }
    }
    if changed {
        kept.write(root)?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;
