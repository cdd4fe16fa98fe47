//! The parts below HTTP that ureq leaves to its user: Unix sockets, name lookups, trusted certificates.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::world::dial;

/// Connects to one Unix socket, whatever the URI says.
#[derive(Debug)]
pub(super) struct UnixConnector(pub(super) PathBuf);

#[derive(Debug)]
pub(super) struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Connector for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _chained: Option<()>,
    ) -> Result<Option<UnixTransport>, Error> {
        let limit = left(details.timeout)?;
        let stream =
            dial::unix(&self.0, limit).map_err(|error| timed_out(error, details.timeout))?;
        let config = details.config;
        Ok(Some(UnixTransport {
            stream,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        }))
    }
}

/// What is left of `timeout`; zero is an error, since the kernel takes zero for "for ever".
fn left(timeout: NextTimeout) -> Result<Option<std::time::Duration>, Error> {
    match timeout.after {
        Duration::Exact(left) if left.is_zero() => Err(Error::Timeout(timeout.reason)),
        Duration::Exact(left) => Ok(Some(left)),
        Duration::NotHappening => Ok(None),
    }
}

fn timed_out(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let started = Instant::now();
        let mut sent = 0;
        while sent < amount {
            let mut timeout = timeout.for_write();
            if let Duration::Exact(after) = timeout.after {
                timeout.after = after.saturating_sub(started.elapsed()).into();
            }
            self.stream.set_write_timeout(left(timeout)?)?;
            match self.stream.write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(timed_out(error, timeout)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(left(timeout)?)?;
        let read = self
            .stream
            .read(self.buffers.input_append_buf())
            .map_err(|error| timed_out(error, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Connections are not kept, so nobody takes one up again.
        false
    }
}

/// Looks names up within the time that is left.
#[derive(Debug)]
pub(super) struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let standard = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(standard);
        let mut found = self.empty();
        let addresses =
            dial::lookup(host, port, left(timeout)?).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::HostNotFound,
                _ => timed_out(error, timeout),
            })?;
        // Sixteen is all that the array holds.
        for address in addresses.into_iter().take(16) {
            found.push(address);
        }
        Ok(found)
    }
}

/// For sockets that have no name to look up; ureq wants an address nevertheless.
#[derive(Debug)]
pub(super) struct NoNames;

impl Resolver for NoNames {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut found = self.empty();
        found.push(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        Ok(found)
    }
}

/// Where distributions keep the certificates they trust: Debian, Fedora, SUSE.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Trust in the authorities of `ca_file`, else of `$SSL_CERT_FILE`, else of the system.
pub(super) fn trust(ca_file: Option<&Path>) -> Result<TlsConfig, String> {
    let file = match ca_file {
        Some(file) => file.to_owned(),
        None => std::env::var_os("SSL_CERT_FILE")
            .map(PathBuf::from)
            .or_else(|| BUNDLES.iter().map(PathBuf::from).find(|file| file.exists()))
            .ok_or("no certificates to trust: the system has no bundle, and ca_file is not set")?,
    };
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let pem = fs::read(&file).map_err(|error| named(&error))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_, Error>>()
        .map_err(|error| named(&error))?;
    if certificates.is_empty() {
        return Err(named(&"no certificate in it"));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
