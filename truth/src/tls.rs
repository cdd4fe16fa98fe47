//! TLS, ended by the servers themselves, with a certificate that the lab makes.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
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
    /// HTTP/2 without TLS, known to both sides beforehand.
    Http2,
}

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
        if matches!(self, Self::Plain | Self::Http2) {
            return Ok(None);
        }
        let own = identity()?;
        let provider = Arc::new(ring::default_provider());
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
        if self == Self::Tls13NoTickets {
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = ring::Ticketer::new()?;
        }
        Ok(Some(Arc::new(config)))
    }

    /// How a client speaks it. One for each way of speaking: they hold the sessions.
    fn client(self, resumes: bool) -> Result<Arc<ClientConfig>> {
        let own = identity()?;
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
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
        Ok(Arc::new(config))
    }
}

/// Takes the server's side of a handshake, record by record, as most programs do: what follows it stays in the kernel until it is
/// asked for.
pub(crate) fn accept(
    stream: &mut TcpStream,
    config: &Arc<ServerConfig>,
) -> Result<ServerConnection> {
    let mut session = ServerConnection::new(Arc::clone(config))?;
    while session.is_handshaking() {
        record(stream, &mut session)?;
    }
    Ok(session)
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

/// The client's side of a handshake.
pub(crate) fn connect(stream: TcpStream, speech: Speech, to: To) -> Result<ClientStream> {
    const KINDS: usize = 12;
    static CONFIGS: [OnceLock<Option<Arc<ClientConfig>>>; KINDS] =
        [const { OnceLock::new() }; KINDS];
    let kind = 2 * speech as usize + usize::from(to.resumes);
    let config = CONFIGS[kind]
        .get_or_init(|| speech.client(to.resumes).ok())
        .clone()
        .context("no client for this way of speaking")?;
    // Sessions are kept by name: each server has its own.
    let name = ServerName::try_from(format!("p{}.lab", to.address.port()))?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, name)?, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
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
