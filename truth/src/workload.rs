//! What clients do. One row each; its file order is the order of the matrix.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use drainctl::config::PortRule;

use crate::client::{self, Client, To};
use crate::dice::Dice;
use crate::http2;
use crate::plan::Plan;
use crate::proxy::Via;
use crate::server::spawn;
use crate::tls::Speech;

/// One way of using connections.
pub(crate) struct Workload {
    /// Its name in the matrix and on the command line.
    pub(crate) name: &'static str,
    /// What the default settings can't do here, if so; such rows fail no test.
    pub(crate) beyond: Option<&'static str>,
    /// The ways on which it runs.
    pub(crate) via: &'static [Via],
    /// What the servers speak.
    pub(crate) speech: Speech,
    /// The rule that is set for the port, if one is.
    pub(crate) rule: Option<PortRule>,
    /// Whether the port was probed.
    pub(crate) probed: bool,
    /// Whether proxies use connections again for other clients.
    pub(crate) reuses: bool,
    /// Whether the server's kernel asks silent clients whether they are there, each second (`SO_KEEPALIVE`).
    pub(crate) keepalive: bool,
    /// Whether clients resume sessions of TLS.
    resumes: bool,
    /// How many clients at once.
    clients: u64,
    /// What one client does with one connection until it gives it up.
    connection: fn(To, &mut Dice) -> Result<()>,
}

const EVERY: &[Via] = &[
    Via::V4,
    Via::V6,
    Via::Mapped,
    Via::Haproxy,
    Via::Nginx,
    Via::Envoy,
];
const PROXIED: &[Via] = &[Via::V4, Via::Haproxy, Via::Nginx, Via::Envoy];
const DIRECT: &[Via] = &[Via::V4, Via::V6];

/// HTTP/1.1 without TLS.
const HTTP: Workload = Workload {
    name: "",
    beyond: None,
    via: DIRECT,
    speech: Speech::Plain,
    rule: None,
    probed: true,
    reuses: true,
    keepalive: false,
    resumes: false,
    clients: 8,
    connection: first,
};
/// A request over TLS as soon as the connection is there.
const FIRST: Workload = Workload {
    speech: Speech::Tls13,
    reuses: false,
    ..HTTP
};
/// HTTP/2 without TLS.
const HTTP2: Workload = Workload {
    via: &[Via::V4, Via::Haproxy],
    speech: Speech::Http2,
    connection: h2_unary,
    ..HTTP
};
/// HTTP/2 over TLS.
const HTTP2_TLS: Workload = Workload {
    speech: Speech::Http2Tls,
    ..HTTP2
};
/// Connections over TLS that are opened ahead of use.
const AHEAD: Workload = Workload {
    via: &[Via::V4],
    clients: 4,
    connection: ahead,
    ..FIRST
};

/// Every workload.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "reuse",
        beyond: None,
        via: EVERY,
        clients: 24,
        connection: reuse,
        ..HTTP
    },
    Workload {
        name: "bodies",
        beyond: None,
        via: PROXIED,
        clients: 12,
        connection: bodies,
        ..HTTP
    },
    Workload {
        name: "keepalive",
        beyond: None,
        via: PROXIED,
        keepalive: true,
        clients: 12,
        connection: bodies,
        ..HTTP
    },
    Workload {
        name: "pipelined",
        beyond: None,
        via: DIRECT,
        clients: 8,
        connection: |to, dice| pipelined(to, dice, 20, 300),
        ..HTTP
    },
    Workload {
        name: "pipelined-slow",
        beyond: Some("requests read ahead by the program can't be seen: pause"),
        via: DIRECT,
        clients: 4,
        connection: |to, dice| pipelined(to, dice, 1500, 4000),
        ..HTTP
    },
    Workload {
        name: "expect",
        beyond: None,
        via: &[Via::V4, Via::Haproxy],
        clients: 8,
        connection: expect,
        ..HTTP
    },
    Workload {
        name: "gaps",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: |to, dice| parts(to, dice, 50, 800),
        ..HTTP
    },
    Workload {
        name: "gaps-long",
        beyond: Some("an answer that pauses for longer than `pause`"),
        via: PROXIED,
        clients: 6,
        connection: |to, dice| parts(to, dice, 1500, 5000),
        ..HTTP
    },
    Workload {
        name: "header-first",
        beyond: None,
        via: PROXIED,
        clients: 6,
        connection: |to, dice| header_first(to, dice, 50, 800),
        ..HTTP
    },
    Workload {
        name: "header-first-long",
        beyond: Some("an answer that pauses for longer than `pause`"),
        via: PROXIED,
        clients: 4,
        connection: |to, dice| header_first(to, dice, 1500, 5000),
        ..HTTP
    },
    Workload {
        name: "long-poll",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: long_poll,
        ..HTTP
    },
    Workload {
        name: "early",
        beyond: Some("an upload that goes on after its answer looks like a request"),
        via: DIRECT,
        clients: 4,
        connection: early,
        ..HTTP
    },
    Workload {
        name: "half-closed",
        beyond: None,
        via: DIRECT,
        clients: 8,
        connection: half_closed,
        ..HTTP
    },
    Workload {
        name: "vanishing",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: vanishing,
        ..HTTP
    },
    Workload {
        name: "pool",
        beyond: None,
        via: PROXIED,
        clients: 1,
        connection: pool,
        ..HTTP
    },
    Workload {
        name: "tls13-first",
        via: EVERY,
        ..FIRST
    },
    Workload {
        name: "tls13-first-alike",
        connection: first_alike,
        ..FIRST
    },
    Workload {
        name: "tls13-first-resumed",
        resumes: true,
        ..FIRST
    },
    Workload {
        name: "tls13-first-no-tickets",
        via: PROXIED,
        speech: Speech::Tls13NoTickets,
        ..FIRST
    },
    Workload {
        name: "tls12-first",
        via: PROXIED,
        speech: Speech::Tls12,
        ..FIRST
    },
    Workload {
        name: "tls12-first-resumed",
        speech: Speech::Tls12,
        resumes: true,
        ..FIRST
    },
    Workload {
        name: "tls-first-certificate",
        speech: Speech::Certificate,
        connection: first_quick,
        ..FIRST
    },
    Workload {
        name: "tls-first-certificate-long",
        beyond: Some(
            "a first request longer than `uncertain_hold`, on a connection that began with a client's certificate",
        ),
        speech: Speech::Certificate,
        ..FIRST
    },
    Workload {
        name: "tls13-first-retry",
        speech: Speech::Retry,
        connection: first_quick,
        ..FIRST
    },
    Workload {
        name: "tls13-first-retry-long",
        beyond: Some(
            "a first request longer than `uncertain_hold`, on a connection that began with HelloRetryRequest",
        ),
        speech: Speech::Retry,
        ..FIRST
    },
    Workload {
        name: "tls13-first-early",
        speech: Speech::EarlyData,
        resumes: true,
        connection: first_quick,
        ..FIRST
    },
    Workload {
        name: "tls13-first-early-long",
        beyond: Some(
            "a first request longer than `uncertain_hold` that came along with a hello, both in less than 536 bytes",
        ),
        speech: Speech::EarlyData,
        resumes: true,
        ..FIRST
    },
    Workload {
        name: "tls-first-unprobed",
        probed: false,
        connection: first_quick,
        ..FIRST
    },
    Workload {
        name: "tls-first-unprobed-long",
        beyond: Some(
            "a first request longer than `uncertain_hold`, on a port that was never probed",
        ),
        probed: false,
        ..FIRST
    },
    Workload {
        name: "tls13-reuse",
        via: PROXIED,
        reuses: true,
        connection: reuse,
        ..FIRST
    },
    Workload {
        name: "tls13-bodies",
        via: PROXIED,
        reuses: true,
        connection: bodies,
        ..FIRST
    },
    Workload {
        name: "tls12-reuse",
        speech: Speech::Tls12,
        via: PROXIED,
        reuses: true,
        connection: reuse,
        ..FIRST
    },
    Workload {
        name: "tls13-ahead",
        ..AHEAD
    },
    Workload {
        name: "tls13-ahead-resumed",
        resumes: true,
        ..AHEAD
    },
    Workload {
        name: "tls13-ahead-no-tickets",
        speech: Speech::Tls13NoTickets,
        ..AHEAD
    },
    Workload {
        name: "tls12-ahead",
        speech: Speech::Tls12,
        ..AHEAD
    },
    Workload {
        name: "tls12-ahead-resumed",
        speech: Speech::Tls12,
        resumes: true,
        ..AHEAD
    },
    Workload {
        name: "tls-ahead-certificate",
        speech: Speech::Certificate,
        ..AHEAD
    },
    Workload {
        name: "h2-unary",
        ..HTTP2
    },
    Workload {
        name: "h2-unary-at-once",
        beyond: Some(
            "a request in several segments, in the tick of the last answer, that takes longer than `uncertain_hold`",
        ),
        connection: |to, dice| h2_unary_after(to, dice, 0),
        ..HTTP2
    },
    Workload {
        name: "h2-pings",
        via: &[Via::V4],
        connection: h2_pings,
        ..HTTP2
    },
    Workload {
        name: "h2-server-streaming",
        connection: h2_server_streaming,
        ..HTTP2
    },
    Workload {
        name: "h2-bidirectional",
        via: &[Via::V4],
        connection: h2_bidirectional,
        ..HTTP2
    },
    Workload {
        name: "h2-shared",
        via: &[Via::V4],
        connection: |to, dice| h2_shared(to, dice, 8000),
        ..HTTP2
    },
    Workload {
        name: "h2-shared-long",
        beyond: Some(
            "a request that is silent for longer than `stream_quiet` while others on its connection were answered after it",
        ),
        via: &[Via::V4],
        connection: |to, dice| h2_shared(to, dice, 20_000),
        ..HTTP2
    },
    Workload {
        name: "h2-tls-unary",
        ..HTTP2_TLS
    },
    Workload {
        name: "h2-tls-pings",
        via: &[Via::V4],
        connection: h2_pings,
        ..HTTP2_TLS
    },
    Workload {
        name: "h2-tls-server-streaming",
        connection: h2_server_streaming,
        ..HTTP2_TLS
    },
    Workload {
        name: "h2-tls-bidirectional",
        via: &[Via::V4],
        connection: h2_bidirectional,
        ..HTTP2_TLS
    },
    Workload {
        name: "sse",
        via: PROXIED,
        rule: Some(PortRule::Streams),
        connection: |to, dice| parts(to, dice, 1500, 8000),
        ..HTTP
    },
    Workload {
        name: "websocket",
        via: &[Via::V4, Via::Haproxy],
        rule: Some(PortRule::Streams),
        connection: conversations,
        ..HTTP
    },
    Workload {
        name: "websocket-until-closed",
        via: &[Via::V4, Via::Haproxy],
        rule: Some(PortRule::UntilClosed),
        connection: silent_socket,
        ..HTTP
    },
];

impl Workload {
    /// Whether its requests come one after another on a connection: HTTP/1.1, over TLS or not.
    pub(crate) fn is_requests(&self) -> bool {
        !self.speech.is_http2() && self.rule.is_none()
    }

    /// Starts the clients; they go on until the program ends.
    pub(crate) fn start(&'static self, via: Via, port: u16) {
        let to = To {
            address: via.target(port),
            // A proxy's clients need no TLS.
            speech: match (via.program(), self.speech) {
                (Some(_), Speech::Http2Tls) => Speech::Http2,
                (Some(_), speech) if speech.is_tls() => Speech::Plain,
                (_, speech) => speech,
            },
            resumes: self.resumes,
        };
        for seed in 0..self.clients {
            let run = move || {
                let mut dice = Dice::new(seed + u64::from(port) * 1000);
                // Not all in the same tick.
                nap(&mut dice, 0, 1000);
                loop {
                    // A connection that breaks is opened again, as every client does.
                    if (self.connection)(to, &mut dice).is_err() {
                        nap(&mut dice, 20, 100);
                    }
                }
            };
            if self.speech.is_http2() {
                // A runtime needs more room.
                std::thread::spawn(run);
            } else {
                spawn(run);
            }
        }
    }
}

fn nap(dice: &mut Dice, low: u64, high: u64) {
    sleep(Duration::from_millis(dice.between(low, high)));
}

fn size(dice: &mut Dice, high: u64) -> usize {
    usize::try_from(dice.between(0, high)).unwrap_or_default()
}

/// How long a server works on a request: half of them are over within a tick.
fn work(dice: &mut Dice) -> u64 {
    match dice.between(1, 100) {
        1..=50 => 0,
        51..=70 => 20,
        71..=90 => 300,
        _ => dice.between(2000, 8000),
    }
}

/// What a client does before its next request: mostly nothing, so that it meets the last answer in one tick.
fn think(dice: &mut Dice) {
    match dice.between(1, 100) {
        1..=60 => {}
        61..=75 => nap(dice, 10, 60),
        76..=90 => nap(dice, 300, 1500),
        _ => nap(dice, 2000, 13_000),
    }
}

fn reuse(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    // Now and then a first request, too.
    while !dice.percent(3) {
        let plan = Plan::after(work(dice), size(dice, 2000));
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn bodies(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(3) {
        let largest = [1000, 20_000, 200_000][size(dice, 2)];
        let plan = Plan::after(work(dice), size(dice, largest));
        client.ask(&plan, size(dice, largest))?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

/// How long a server works on a first request: now and then longer than anything is held in doubt.
fn long_work(dice: &mut Dice) -> u64 {
    if dice.percent(20) {
        dice.between(11_000, 16_000)
    } else {
        work(dice)
    }
}

/// One request at once, perhaps another, and then nothing for a while.
fn first(to: To, dice: &mut Dice) -> Result<()> {
    let wait = long_work(dice);
    few(to, dice, wait)
}

/// As [`first`], with less work.
fn first_quick(to: To, dice: &mut Dice) -> Result<()> {
    let wait = work(dice);
    few(to, dice, wait)
}

/// As [`first`], with answers no longer than what handshakes differ by.
fn first_alike(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let body = size(dice, 4000);
    client.ask(
        &Plan::after(long_work(dice), size(dice, ALIKE as u64)),
        body,
    )?;
    client.answer()?;
    nap(dice, 1000, 13_000);
    Ok(())
}

/// Bytes of an answer that may be what handshakes differ by: a post-quantum key share, and 200.
const ALIKE: usize = 1300;

fn few(to: To, dice: &mut Dice, wait: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    let body = if dice.percent(30) {
        size(dice, 8000)
    } else {
        0
    };
    let answer = |dice: &mut Dice| size(dice, 6000);
    client.ask(&Plan::after(wait, answer(dice)), body)?;
    client.answer()?;
    think(dice);
    if dice.percent(30) {
        client.ask(&Plan::after(work(dice), answer(dice)), 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

/// Nothing for a while, and perhaps a request.
fn ahead(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    nap(dice, 1000, 15_000);
    if dice.percent(50) {
        client.ask(&Plan::after(work(dice), size(dice, 2000)), 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn pipelined(to: To, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plans = [0; 3].map(|_| Plan::after(dice.between(low, high), size(dice, 500)));
        let heads = plans.map(|plan| client::head(&plan, 0, ""));
        client.send(heads.concat().as_bytes())?;
        for _ in plans {
            client.answer()?;
        }
        think(dice);
    }
    Ok(())
}

fn expect(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan::after(work(dice), size(dice, 500));
        let body = 1 + size(dice, 20_000);
        client.ask_and_wait(&plan, body)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn parts(to: To, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan {
            wait: work(dice).min(300),
            size: 1 + size(dice, 5000),
            parts: dice.between(2, 6),
            gap: dice.between(low, high),
            early: false,
        };
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn header_first(to: To, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan {
            gap: dice.between(low, high),
            ..Plan::after(work(dice).min(300), 1 + size(dice, 5000))
        };
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn long_poll(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        client.ask(&Plan::after(dice.between(5000, 25_000), 100), 0)?;
        client.answer()?;
    }
    Ok(())
}

fn early(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let plan = Plan {
        early: true,
        ..Plan::after(0, 100)
    };
    client.ask_half(&plan, 20_000)?;
    client.answer()?;
    nap(dice, 500, 3000);
    client.send(&[b'.'; 10_000])?;
    nap(dice, 1000, 3000);
    Ok(())
}

fn half_closed(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let before = dice.between(0, 2);
    for _ in 0..before {
        client.ask(&Plan::after(0, 100), 0)?;
        client.answer()?;
    }
    client.ask(&Plan::after(work(dice), size(dice, 20_000)), 0)?;
    nap(dice, 0, 3);
    client.half_close()?;
    client.answer()?;
    nap(dice, 0, 2000);
    Ok(())
}

fn vanishing(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(40) {
        client.ask(&Plan::after(work(dice).min(300), size(dice, 5000)), 0)?;
        client.answer()?;
        think(dice);
    }
    client.ask(&Plan::after(dice.between(200, 4000), 100), 0)?;
    nap(dice, 0, 1000);
    client.vanish()
}

/// How many connections a pool holds.
const POOL: usize = 1000;

/// A pool that was used by a crowd, then by quick requests, and then not at all.
fn pool(to: To, dice: &mut Dice) -> Result<()> {
    let clients: Result<Vec<_>> = (0..POOL).map(|_| Client::connect(to)).collect();
    let mut clients = clients?;
    for wait in [1500, 0, 0] {
        for client in &mut clients {
            client.ask(&Plan::after(wait, 100), 0)?;
        }
        for client in &mut clients {
            client.answer()?;
        }
    }
    nap(dice, 25_000, 30_000);
    Ok(())
}

/// One request after another on a connection, some of them long.
fn h2_unary(to: To, dice: &mut Dice) -> Result<()> {
    h2_unary_after(to, dice, 20)
}

/// As [`h2_unary`], with a pause of at least so many milliseconds after each answer.
fn h2_unary_after(to: To, dice: &mut Dice, pause: u64) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(10) {
        let wait = long_work(dice);
        client.ask(
            &Plan::after(wait, size(dice, 20_000)),
            100 + size(dice, 200),
        )?;
        client.idle(pause);
        idle(&mut client, dice);
    }
    Ok(())
}

fn idle(client: &mut http2::Client, dice: &mut Dice) {
    client.idle(match dice.between(1, 10) {
        1..=4 => 0,
        5..=7 => dice.between(20, 1500),
        _ => dice.between(2000, 14_000),
    });
}

/// Pings all the time, with a long request now and then.
fn h2_pings(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        client.ask_pinging(&Plan::after(long_work(dice), 1000), 2000)?;
        client.ping(2000, dice.between(1, 10))?;
    }
    Ok(())
}

fn h2_server_streaming(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        let plan = Plan {
            wait: work(dice),
            size: size(dice, 5000),
            parts: dice.between(2, 6),
            gap: dice.between(50, 8000),
            early: false,
        };
        client.ask(&plan, 100)?;
        idle(&mut client, dice);
    }
    Ok(())
}

fn h2_bidirectional(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        let mut talk = client.talk()?;
        for _ in 0..dice.between(2, 6) {
            client.idle(dice.between(50, 8000));
            client.say(&mut talk, 50 + size(dice, 5000))?;
        }
        client.end(talk)?;
        idle(&mut client, dice);
    }
    Ok(())
}

/// A longer request, and shorter ones beside it.
fn h2_shared(to: To, dice: &mut Dice, longest: u64) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        let plans = [longest, 2000, 500].map(|most| Plan::after(dice.between(most / 4, most), 500));
        client.ask_all(&plans)?;
        idle(&mut client, dice);
    }
    Ok(())
}

/// A WebSocket with conversations, and silence between them.
fn conversations(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    client.upgrade()?;
    while !dice.percent(10) {
        client.say(b"hello [")?;
        for _ in 0..dice.between(1, 5) {
            nap(dice, 50, 8000);
            client.say(&vec![b'.'; 1 + size(dice, 3000)])?;
        }
        client.say(b"bye ]")?;
        nap(dice, 1000, 15_000);
    }
    Ok(())
}

/// A WebSocket that is silent for long.
fn silent_socket(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    client.upgrade()?;
    for _ in 0..dice.between(1, 4) {
        client.say(b"still here")?;
        nap(dice, 1000, 20_000);
    }
    Ok(())
}
