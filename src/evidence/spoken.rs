//! What is spoken on a port, as a probe found it. Pure.

use serde::{Deserialize, Serialize};

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// With TLS or without.
    pub transport: Transport,
    /// HTTP/1.1, or whatever else is not HTTP/2.
    pub http1: bool,
    /// HTTP/2: chosen by ALPN, or answered with SETTINGS.
    pub http2: bool,
    /// With HTTP/2, what the server has sent before any request, its handshake included; bytes.
    #[serde(default)]
    pub greeting: u32,
}

impl Spoken {
    /// Requests one after another, without TLS.
    pub const PLAIN: Self = Self {
        transport: Transport::Plain,
        http1: true,
        http2: false,
        greeting: 0,
    };

    /// Whether the same server may have spoken so: a handshake is some bytes longer or shorter each time, by its signature.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        let transport = match (&self.transport, &other.transport) {
            (Transport::Tls(one), Transport::Tls(other)) => one.is_as(other),
            (one, other) => one == other,
        };
        transport
            && (self.http1, self.http2) == (other.http1, other.http2)
            && about(self.greeting, other.greeting)
    }
}

/// So many bytes of difference say nothing: a signature with ECDSA has up to 9 bytes less than others with the same key.
const SLACK: u32 = 16;

fn about(one: u32, other: u32) -> bool {
    one.abs_diff(other) <= SLACK
}

impl std::fmt::Display for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let transport = match self.transport {
            Transport::Unknown => return f.write_str("nothing known"),
            Transport::Plain => "no TLS",
            Transport::Tls(Handshake { newer: true, .. }) => "TLS 1.3",
            Transport::Tls(Handshake { newer: false, .. }) => "TLS 1.2",
        };
        f.write_str(transport)?;
        match (self.http1, self.http2) {
            (_, false) => Ok(()),
            (true, true) => f.write_str(", HTTP/2 and others"),
            (false, true) => f.write_str(", HTTP/2 only"),
        }
    }
}

/// With TLS or without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// It was not probed.
    #[default]
    Unknown,
    /// Without.
    Plain,
    /// With, ended by the program.
    Tls(Handshake),
}

/// How a server's part of its handshakes looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// TLS 1.3; else 1.2.
    pub newer: bool,
    /// It asks clients for a certificate: its tickets may be longer, and clients send more.
    pub asks_certificate: bool,
    /// It takes requests along with the hello that resumes a session (0-RTT).
    #[serde(default)]
    pub early_data: bool,
    /// It may take X25519MLKEM768: its part is longer then, where clients offer that.
    #[serde(default = "unknown")]
    pub hybrid_keys: bool,
    /// A full one.
    pub full: Flight,
    /// One that resumes a session, if it does that.
    pub resumed: Option<Flight>,
}

/// What a server sends in one handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// Bytes before the client's last word.
    pub first: u32,
    /// Bytes after it: session tickets, or the end of a handshake of TLS 1.2.
    pub last: u32,
    /// Pieces in which it was written.
    pub writes: u32,
}

/// Whoever was not asked may take them.
const fn unknown() -> bool {
    true
}

impl Handshake {
    fn is_as(&self, other: &Self) -> bool {
        let resumed = match (&self.resumed, &other.resumed) {
            (Some(one), Some(other)) => one.is_as(other),
            (one, other) => one == other,
        };
        let traits = |one: &Self| (one.newer, one.asks_certificate, one.hybrid_keys);
        traits(self) == traits(other) && self.full.is_as(&other.full) && resumed
    }
}

impl Flight {
    fn is_as(&self, other: &Self) -> bool {
        about(self.first, other.first)
            && about(self.last, other.last)
            && self.writes == other.writes
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.first) + u64::from(self.last)
    }
}
