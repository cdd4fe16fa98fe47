//! What clients do. One row each; its file order is the order of the matrix.

use anyhow::Result;
use drainctl::config::PortRule;

use crate::client::To;
use crate::dice::Dice;
use crate::habits;
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
    connection: habits::first,
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
    connection: habits::h2_unary,
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
    connection: habits::ahead,
    ..FIRST
};

/// Every workload.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "reuse",
        beyond: None,
        via: EVERY,
        clients: 24,
        connection: habits::reuse,
        ..HTTP
    },
    Workload {
        name: "bodies",
        beyond: None,
        via: PROXIED,
        clients: 12,
        connection: habits::bodies,
        ..HTTP
    },
    Workload {
        name: "keepalive",
        beyond: None,
        via: PROXIED,
        keepalive: true,
        clients: 12,
        connection: habits::bodies,
        ..HTTP
    },
    Workload {
        name: "pipelined",
        beyond: None,
        via: DIRECT,
        clients: 8,
        connection: |to, dice| habits::pipelined(to, dice, 20, 300),
        ..HTTP
    },
    Workload {
        name: "pipelined-slow",
        beyond: Some("requests read ahead by the program can't be seen: pause"),
        via: DIRECT,
        clients: 4,
        connection: |to, dice| habits::pipelined(to, dice, 1500, 4000),
        ..HTTP
    },
    Workload {
        name: "expect",
        beyond: None,
        via: &[Via::V4, Via::Haproxy],
        clients: 8,
        connection: habits::expect,
        ..HTTP
    },
    Workload {
        name: "gaps",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: |to, dice| habits::parts(to, dice, 50, 800),
        ..HTTP
    },
    Workload {
        name: "gaps-long",
        beyond: Some("an answer that pauses for longer than `pause`"),
        via: PROXIED,
        clients: 6,
        connection: |to, dice| habits::parts(to, dice, 1500, 5000),
        ..HTTP
    },
    Workload {
        name: "header-first",
        beyond: None,
        via: PROXIED,
        clients: 6,
        connection: |to, dice| habits::header_first(to, dice, 50, 800),
        ..HTTP
    },
    Workload {
        name: "header-first-long",
        beyond: Some("an answer that pauses for longer than `pause`"),
        via: PROXIED,
        clients: 4,
        connection: |to, dice| habits::header_first(to, dice, 1500, 5000),
        ..HTTP
    },
    Workload {
        name: "long-poll",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: habits::long_poll,
        ..HTTP
    },
    Workload {
        name: "early",
        beyond: Some("an upload that goes on after its answer looks like a request"),
        via: DIRECT,
        clients: 4,
        connection: habits::early,
        ..HTTP
    },
    Workload {
        name: "half-closed",
        beyond: None,
        via: DIRECT,
        clients: 8,
        connection: habits::half_closed,
        ..HTTP
    },
    Workload {
        name: "vanishing",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: habits::vanishing,
        ..HTTP
    },
    Workload {
        name: "pool",
        beyond: None,
        via: PROXIED,
        clients: 1,
        connection: habits::pool,
        ..HTTP
    },
    Workload {
        name: "tls13-first",
        via: EVERY,
        ..FIRST
    },
    Workload {
        name: "tls13-first-alike",
        connection: habits::first_alike,
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
        connection: habits::first_quick,
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
        connection: habits::first_quick,
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
        connection: habits::first_quick,
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
        connection: habits::first_quick,
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
        connection: habits::reuse,
        ..FIRST
    },
    Workload {
        name: "tls13-bodies",
        via: PROXIED,
        reuses: true,
        connection: habits::bodies,
        ..FIRST
    },
    Workload {
        name: "tls12-reuse",
        speech: Speech::Tls12,
        via: PROXIED,
        reuses: true,
        connection: habits::reuse,
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
        connection: |to, dice| habits::h2_unary_after(to, dice, 0),
        ..HTTP2
    },
    Workload {
        name: "h2-pings",
        via: &[Via::V4],
        connection: habits::h2_pings,
        ..HTTP2
    },
    Workload {
        name: "h2-server-streaming",
        connection: habits::h2_server_streaming,
        ..HTTP2
    },
    Workload {
        name: "h2-bidirectional",
        via: &[Via::V4],
        connection: habits::h2_bidirectional,
        ..HTTP2
    },
    Workload {
        name: "h2-shared",
        via: &[Via::V4],
        connection: |to, dice| habits::h2_shared(to, dice, 8000),
        ..HTTP2
    },
    Workload {
        name: "h2-shared-long",
        beyond: Some(
            "a request that is silent for longer than `stream_quiet` while others on its connection were answered after it",
        ),
        via: &[Via::V4],
        connection: |to, dice| habits::h2_shared(to, dice, 20_000),
        ..HTTP2
    },
    Workload {
        name: "h2-tls-unary",
        ..HTTP2_TLS
    },
    Workload {
        name: "h2-tls-pings",
        via: &[Via::V4],
        connection: habits::h2_pings,
        ..HTTP2_TLS
    },
    Workload {
        name: "h2-tls-server-streaming",
        connection: habits::h2_server_streaming,
        ..HTTP2_TLS
    },
    Workload {
        name: "h2-tls-bidirectional",
        via: &[Via::V4],
        connection: habits::h2_bidirectional,
        ..HTTP2_TLS
    },
    Workload {
        name: "sse",
        via: PROXIED,
        rule: Some(PortRule::Streams),
        connection: |to, dice| habits::parts(to, dice, 1500, 8000),
        ..HTTP
    },
    Workload {
        name: "websocket",
        via: &[Via::V4, Via::Haproxy],
        rule: Some(PortRule::Streams),
        connection: habits::conversations,
        ..HTTP
    },
    Workload {
        name: "websocket-until-closed",
        via: &[Via::V4, Via::Haproxy],
        rule: Some(PortRule::UntilClosed),
        connection: habits::silent_socket,
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
                habits::nap(&mut dice, 0, 1000);
                loop {
                    // A connection that breaks is opened again, as every client does.
                    if (self.connection)(to, &mut dice).is_err() {
                        habits::nap(&mut dice, 20, 100);
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
