//! HTTP calls that end by their deadline, whatever the server or the resolver does.
//!
//! Nothing is retried, no redirect is followed, no connection is kept, and no proxy is taken from the environment: a call reaches
//! the server it names, once, or fails and says so.

mod endpoint;
mod transport;

pub use endpoint::{Endpoint, EndpointError};

use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Request;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::{Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Error};

use crate::world::Deadline;
use transport::{Names, NoNames, UnixConnector};

/// The largest body that is read, in bytes.
pub const LARGEST_BODY: u64 = 4 << 20;

/// Whom to trust over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities' certificates (PEM), instead of `$SSL_CERT_FILE` and the system's.
    pub ca_file: Option<PathBuf>,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    agent: Agent,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status, 100–999. Redirects are not followed.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// A call without an answer. Names the server, never a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: {reason}")]
pub struct HttpError {
    kind: HttpErrorKind,
    endpoint: String,
    reason: String,
}

/// The kind of an [`HttpError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// No such name, no connection, or it broke.
    Unreachable,
    /// The deadline passed first.
    TimedOut,
    /// Not HTTP, too large, or a certificate that can't be trusted.
    BadAnswer,
    /// The call could not be made: no certificates to trust, an impossible header or path.
    Local,
}

impl HttpError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }
}

impl Client {
    /// A client for the server at `endpoint`. The TLS stack and its certificates are only touched for `https://`.
    ///
    /// # Errors
    /// [`HttpErrorKind::Local`] when the certificates to trust can't be read.
    pub fn new(endpoint: &Endpoint, tls: &Tls) -> Result<Self, HttpError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(concat!("drainctl/", env!("CARGO_PKG_VERSION")));
        let agent = if let Some(path) = &endpoint.socket {
            Agent::with_parts(config.build(), UnixConnector(path.clone()), NoNames)
        } else if endpoint.is_tls() {
            let trust: TlsConfig =
                transport::trust(tls.ca_file.as_deref()).map_err(|reason| HttpError {
                    kind: HttpErrorKind::Local,
                    endpoint: endpoint.to_string(),
                    reason,
                })?;
            Agent::with_parts(
                config.tls_config(trust).build(),
                Connector::<()>::chain(TcpConnector::default(), RustlsConnector::default()),
                Names,
            )
        } else {
            Agent::with_parts(config.build(), TcpConnector::default(), Names)
        };
        Ok(Self {
            endpoint: endpoint.clone(),
            agent,
        })
    }

    /// Makes one call and reads its whole answer. `path_and_query` begins with a slash and is already encoded (see [`encode`]).
    ///
    /// # Errors
    /// Any [`HttpErrorKind`]; an answer of any status is none.
    pub fn request(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Response, HttpError> {
        self.call(method, path_and_query, headers, body, deadline)
            .map_err(|error| self.failed(&error))
    }

    fn call(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.endpoint.uri(path_and_query));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // A PUT without a body has an empty one; ureq would announce chunks.
        let body = body.or_else(|| matches!(method, "PUT" | "POST" | "PATCH").then_some(&[]));
        // A deadline that has passed is a limit of zero, which ends the call before it begins.
        let limit = Some(deadline.left());
        let answer = match body {
            Some(body) => {
                let request = self.agent.configure_request(request.body(body)?);
                self.agent.run(request.timeout_global(limit).build())
            }
            None => {
                let request = self.agent.configure_request(request.body(())?);
                self.agent.run(request.timeout_global(limit).build())
            }
        };
        let mut answer = answer?;
        Ok(Response {
            status: answer.status().as_u16(),
            body: answer
                .body_mut()
                .with_config()
                .limit(LARGEST_BODY)
                .read_to_vec()?,
        })
    }

    fn failed(&self, error: &Error) -> HttpError {
        use std::io::ErrorKind;
        let (kind, reason) = match error {
            Error::Timeout(_) => (HttpErrorKind::TimedOut, "no answer in time".to_owned()),
            Error::HostNotFound => (HttpErrorKind::Unreachable, "no such host".to_owned()),
            Error::Io(io) => match io.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    (HttpErrorKind::TimedOut, "no answer in time".to_owned())
                }
                // What rustls says of a certificate or a handshake comes as this.
                ErrorKind::InvalidData => (HttpErrorKind::BadAnswer, io.to_string()),
                _ => (HttpErrorKind::Unreachable, io.to_string()),
            },
            Error::Http(_) | Error::BadUri(_) => (
                HttpErrorKind::Local,
                "a path or header that can't be sent".to_owned(),
            ),
            Error::BodyExceedsLimit(_) => (
                HttpErrorKind::BadAnswer,
                format!("an answer of more than {LARGEST_BODY} bytes"),
            ),
            other => (HttpErrorKind::BadAnswer, other.to_string()),
        };
        HttpError {
            kind,
            endpoint: self.endpoint.to_string(),
            reason,
        }
    }
}

/// What may stand in a path segment or a query's value as it is (RFC 3986, unreserved).
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `text` as one path segment or one value of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

#[cfg(test)]
mod tests;
