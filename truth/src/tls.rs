//! TLS, ended by the servers themselves, with a certificate that the lab makes.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::client::To;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// No TLS.
    Plain,
    /// TLS 1.3 with session tickets after the handshake.
    Tls13,
    /// TLS 1.3 without.
    Tls13NoTickets,
    /// TLS 1.2 with session tickets.
    Tls12,
    /// TLS 1.3, and clients show a certificate.
    Certificate,
    /// TLS 1.3 whose clients guess the server's curve wrong: it asks for another hello.
    Retry,
    /// TLS 1.3, and clients that resume a session send a request along with their hello.
    EarlyData,
    /// HTTP/2 without TLS, known to both sides beforehand.
    Http2,
    /// HTTP/2 over TLS 1.3, chosen by ALPN.
    Http2Tls,
}

/// Bytes that a server takes before a handshake is over.
const EARLY_DATA: u32 = 16 << 10;

/// A client's connection.
pub(crate) type ClientStream = StreamOwned<ClientConnection, TcpStream>;

/// The certificate of all servers and clients.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn identity() -> Result<&'static Identity> {
    static IDENTITY: OnceLock<Option<Identity>> = OnceLock::new();
    IDENTITY
        .get_or_init(|| {
            let key = rcgen::KeyPair::generate().ok()?;
            let names = vec!["lab".to_owned()];
            let certificate = rcgen::CertificateParams::new(names)
                .ok()?
                .self_signed(&key)
                .ok()?;
            Some(Identity {
                certificate: certificate.der().clone(),
                key: key.serialize_der(),
            })
        })
        .as_ref()
        .context("no certificate could be made")
}

impl Identity {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

impl Speech {
    /// Whether it is TLS.
    pub(crate) fn is_tls(self) -> bool {
        !matches!(self, Self::Plain | Self::Http2)
    }

    /// Whether it is HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls)
    }

    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2Tls => vec![b"h2".to_vec()],
            _ => Vec::new(),
        }
    }

    /// Curves in the order of preference: a client's hello holds a key for the first.
    fn curves(self, is_client: bool) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if self == Self::Retry {
            provider.kx_groups = vec![ring::kx_group::X25519];
            if is_client {
                provider.kx_groups.insert(0, ring::kx_group::SECP384R1);
            }
        }
        provider
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static NEWER: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        static OLDER: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        match self {
            Self::Tls12 => &OLDER,
            _ => &NEWER,
        }
    }

    /// How a server speaks it; none without TLS.
    pub(crate) fn server(self) -> Result<Option<Arc<ServerConfig>>> {
        if !self.is_tls() {
            return Ok(None);
        }
        let own = identity()?;
        let provider = Arc::new(self.curves(false));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions())?;
        let builder = if self == Self::Certificate {
            let mut roots = RootCertStore::empty();
            roots.add(own.certificate.clone())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build()?)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(own.chain(), own.key())?;
        config.alpn_protocols = self.protocols();
        match self {
            Self::Tls13NoTickets => config.send_tls13_tickets = 0,
            // Against replays such sessions are kept by the server, and used once.
            Self::EarlyData => {
                config.max_early_data_size = EARLY_DATA;
                config.session_storage = ServerSessionMemoryCache::new(10_000);
            }
            _ => config.ticketer = ring::Ticketer::new()?,
        }
        Ok(Some(Arc::new(config)))
    }

    /// How a client speaks it.
    fn client(self, resumes: bool) -> Result<Arc<ClientConfig>> {
        let own = identity()?;
        let builder = ClientConfig::builder_with_provider(self.curves(true).into())
            .with_protocol_versions(self.versions())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = if self == Self::Certificate {
            builder.with_client_auth_cert(own.chain(), own.key())?
        } else {
            builder.with_no_client_auth()
        };
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        config.enable_early_data = self == Self::EarlyData;
        config.alpn_protocols = self.protocols();
        Ok(Arc::new(config))
    }
}

/// Takes the server's side of a handshake, record by record, as most programs do: what follows it stays in the kernel until it is
/// asked for. Also what came along with the client's hello.
pub(crate) fn accept(
    stream: &mut TcpStream,
    config: &Arc<ServerConfig>,
) -> Result<(ServerConnection, Vec<u8>)> {
    use io::Read as _;
    let mut session = ServerConnection::new(Arc::clone(config))?;
    let mut early = Vec::new();
    while session.is_handshaking() {
        record(stream, &mut session)?;
        if let Some(mut data) = session.early_data() {
            data.read_to_end(&mut early)?;
        }
    }
    Ok((session, early))
}

/// Takes one record, and sends what there is to say to it.
pub(crate) fn record(stream: &mut TcpStream, session: &mut ServerConnection) -> Result<()> {
    use io::Read as _;
    let mut record = vec![0; 5];
    stream.read_exact(&mut record)?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    stream.read_exact(&mut record[5..])?;
    let mut rest = record.as_slice();
    while !rest.is_empty() {
        // Some KiB at a time.
        session.read_tls(&mut rest)?;
        let taken = session.process_new_packets();
        while session.wants_write() {
            session.write_tls(stream)?;
        }
        taken?;
    }
    Ok(())
}

/// The client's way of speaking. One for each: they hold the sessions.
pub(crate) fn client(to: To) -> Result<Arc<ClientConfig>> {
    const KINDS: usize = 18;
    static CONFIGS: [OnceLock<Option<Arc<ClientConfig>>>; KINDS] =
        [const { OnceLock::new() }; KINDS];
    let kind = 2 * to.speech as usize + usize::from(to.resumes);
    CONFIGS
        .get(kind)
        .context("more ways of speaking than places")?
        .get_or_init(|| to.speech.client(to.resumes).ok())
        .clone()
        .context("no client for this way of speaking")
}

/// Sessions are kept by name: each server has its own.
pub(crate) fn name(to: To) -> Result<ServerName<'static>> {
    Ok(ServerName::try_from(format!("p{}.lab", to.address.port()))?)
}

/// The client's side of a handshake; with early data, the first write begins it.
pub(crate) fn connect(stream: TcpStream, to: To) -> Result<ClientStream> {
    let connection = ClientConnection::new(client(to)?, name(to)?)?;
    let mut stream = StreamOwned::new(connection, stream);
    if stream.conn.early_data().is_some() {
        return Ok(stream);
    }
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Writes, along with the hello where that may be.
pub(crate) fn write(stream: &mut ClientStream, bytes: &[u8]) -> io::Result<usize> {
    use io::Write as _;
    if stream.conn.is_handshaking()
        && let Some(mut early) = stream.conn.early_data()
    {
        let count = early.write(bytes)?;
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock)?;
        }
        if count > 0 {
            return Ok(count);
        }
    }
    stream.write(bytes)
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone;

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
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
