//! One TLS handshake with a server on this host, and what it sent in it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, SignatureScheme,
    WantsVerifier,
};
use sockdiag::{Socket, SocketId};

use super::door::Door;
use crate::evidence::spoken::Flight;
use crate::world::Deadline;

/// An answer takes this long at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// After this long without a byte, a handshake is over.
pub(super) const QUIET: Duration = Duration::from_millis(200);
/// The head of a TLS record: type, version, length.
const HEAD: usize = 5;
/// The types of records that begin an answer: an alert, a handshake.
pub(super) const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// More is no handshake.
pub(super) const MOST_BYTES: usize = 256 << 10;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shake {
    /// A handshake.
    Done(Done),
    /// An answer in TLS that says no.
    Refused,
    /// An answer in another language, or an end without any.
    Plain {
        /// It was HTTP/1.1.
        http1: bool,
    },
    /// Nobody answered in time.
    Silent,
    /// There was no connection.
    Unreached,
}

/// A handshake that succeeded, as far as the server's part goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) flight: Flight,
    pub(super) newer: bool,
    pub(super) asks_certificate: bool,
    pub(super) resumed: bool,
    pub(super) early_data: bool,
    pub(super) http2: bool,
    /// All that came, with what followed the handshake unasked; bytes.
    pub(super) greeting: u32,
}

/// What handshakes offer; they share their sessions.
#[derive(Debug)]
pub(super) struct Offer {
    config: Option<Arc<ClientConfig>>,
    asked: Arc<NoCertificate>,
}

impl Offer {
    pub(super) fn new(protocols: &[&[u8]]) -> Self {
        let provider = Arc::new(ring::default_provider());
        let asked = Arc::new(NoCertificate::default());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .ok()
            .map(|builder| {
                let mut config = unverified(builder, provider)
                    .with_client_cert_resolver(Arc::clone(&asked) as Arc<_>);
                // Offered, never sent.
                config.enable_early_data = true;
                config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
                Arc::new(config)
            });
        Self { config, asked }
    }

    pub(super) fn shake(&self, door: &Door, deadline: Deadline) -> Shake {
        self.asked.0.store(false, Ordering::Relaxed);
        let config = self.config.clone();
        let Some((stream, connection)) = config.and_then(|config| connect(door, config, deadline))
        else {
            return Shake::Unreached;
        };
        let mut talk = Talk {
            stream,
            connection,
            unread: Vec::new(),
            flight: Flight::default(),
            data: 0,
            answered: false,
        };
        let end = talk.run(deadline);
        let done = || {
            let version = talk.connection.protocol_version();
            Shake::Done(Done {
                flight: Flight {
                    writes: talk.writes(),
                    ..talk.flight
                },
                newer: version == Some(rustls::ProtocolVersion::TLSv1_3),
                asks_certificate: self.asked.0.load(Ordering::Relaxed),
                resumed: talk.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
                early_data: talk.connection.is_early_data_accepted(),
                http2: talk.connection.alpn_protocol() == Some(b"h2"),
                greeting: u32::try_from(talk.flight.bytes())
                    .unwrap_or(u32::MAX)
                    .saturating_add(talk.data),
            })
        };
        let shake = match end {
            // Also where the server took its leave afterwards, for want of a certificate.
            _ if !talk.connection.is_handshaking() => done(),
            End::NotTls { http1 } => Shake::Plain { http1 },
            End::Failed => Shake::Refused,
            End::Closed if !talk.answered => Shake::Plain { http1: false },
            End::Closed => Shake::Refused,
            End::Quiet => Shake::Silent,
        };
        talk.connection.send_close_notify();
        let _ = talk.connection.write_tls(&mut talk.stream);
        let _ = talk.stream.shutdown(Shutdown::Both);
        shake
    }
}

/// A connection, and TLS over it, of which not a byte was sent.
pub(super) fn connect(
    door: &Door,
    config: Arc<ClientConfig>,
    deadline: Deadline,
) -> Option<(TcpStream, ClientConnection)> {
    // By address, so that no server name is sent: balancers send none either, unless told to.
    let connection = ClientConnection::new(config, ServerName::from(door.to().ip())).ok()?;
    let stream = door.connect(deadline).ok()?;
    Some((stream, connection))
}

/// With any certificate taken: nothing is said over these connections.
pub(super) fn unverified(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    provider: Arc<CryptoProvider>,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
}

/// How a conversation ended.
enum End {
    /// The answer was none in TLS.
    NotTls { http1: bool },
    /// The handshake failed.
    Failed,
    /// The server closed.
    Closed,
    /// Nothing came any more.
    Quiet,
}

struct Talk {
    stream: TcpStream,
    connection: ClientConnection,
    unread: Vec<u8>,
    flight: Flight,
    /// Bytes that came over TLS.
    data: u32,
    answered: bool,
}

impl Talk {
    fn run(&mut self, deadline: Deadline) -> End {
        let mut nudged = false;
        loop {
            while self.connection.wants_write() {
                if self.connection.write_tls(&mut self.stream).is_err() {
                    return End::Closed;
                }
            }
            let patience = if self.connection.is_handshaking() {
                PATIENCE
            } else {
                QUIET
            };
            let left = deadline.within(patience).left();
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return End::Quiet;
            }
            let mut part = [0; 16 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return End::Closed,
                Ok(count) => {
                    self.answered = true;
                    self.unread.extend_from_slice(&part[..count]);
                    if let Some(end) = self.records() {
                        return end;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if self.answered || nudged || !self.connection.is_handshaking() {
                        return End::Quiet;
                    }
                    // A server that reads lines waits for the end of one, with its only worker perhaps.
                    nudged = true;
                    if self.stream.write_all(b"\r\n\r\n").is_err() {
                        return End::Closed;
                    }
                }
                Err(_) => return End::Closed,
            }
        }
    }

    /// Takes the whole records that have come, one by one.
    fn records(&mut self) -> Option<End> {
        loop {
            let kind = *self.unread.first()?;
            if self.flight.bytes() == 0 && !matches!(kind, ALERT | HANDSHAKE) {
                return Some(End::NotTls {
                    http1: self.unread.starts_with(b"HTTP/"),
                });
            }
            let length = self.unread.get(3..HEAD)?;
            let whole = HEAD + usize::from(u16::from_be_bytes([length[0], length[1]]));
            if self.unread.len() < whole {
                return None;
            }
            let record: Vec<u8> = self.unread.drain(..whole).collect();
            let shaking = self.connection.is_handshaking();
            let before = self.said();
            let mut rest = record.as_slice();
            let mut taken = Ok(before);
            let mut closed = false;
            while !rest.is_empty() && taken.is_ok() {
                // Some KiB at a time.
                taken = match self.connection.read_tls(&mut rest) {
                    Ok(_) => self.connection.process_new_packets().map(|state| {
                        closed = state.peer_has_closed();
                        state.plaintext_bytes_to_read()
                    }),
                    Err(error) => Err(rustls::Error::General(error.to_string())),
                };
            }
            let Ok(after) = taken else {
                return Some(End::Failed);
            };
            // What follows the handshake without being asked, HTTP/2's SETTINGS or a greeting, is none of it.
            let count = u32::try_from(whole).unwrap_or(u32::MAX);
            if after != before {
                self.data = self.data.saturating_add(count);
            } else {
                if shaking {
                    self.flight.first += count;
                } else {
                    self.flight.last += count;
                }
            }
            if self.flight.bytes() > MOST_BYTES as u64 {
                return Some(End::Failed);
            }
            if closed {
                return Some(End::Closed);
            }
        }
    }

    /// The bytes that were said over TLS so far.
    fn said(&mut self) -> usize {
        let state = self.connection.process_new_packets();
        state.map_or(0, |state| state.plaintext_bytes_to_read())
    }

    /// In how many pieces it came, as if the first flight fitted into one segment; 1 where that can't be seen.
    fn writes(&self) -> u32 {
        self.segments().map_or(1, |(segments, mss)| {
            let needed = self.flight.first.div_ceil(mss.max(1));
            1 + segments.saturating_sub(needed.max(1))
        })
    }

    /// The segments with payload that our own socket has received, and how much one holds.
    fn segments(&self) -> Option<(u32, u32)> {
        let local = self.stream.local_addr().ok()?;
        let remote = self.stream.peer_addr().ok()?;
        let cookie = rustix::net::sockopt::socket_cookie(&self.stream).ok()?;
        let mut found = None;
        Socket::open()
            .ok()?
            .lookup(
                &[SocketId::new(local, remote, 0, cookie)],
                true,
                Deadline::after(PATIENCE).instant(),
                |_, row| {
                    let info = row.and_then(|row| row.info);
                    found = info.and_then(|info| Some((info.data_segs_in()?, info.snd_mss()?)));
                },
            )
            .ok()?;
        found
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Notes that a certificate was asked for, and has none.
#[derive(Debug, Default)]
struct NoCertificate(AtomicBool);

impl ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
