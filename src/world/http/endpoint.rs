//! Where a server is: over TCP, over TLS, or behind a Unix socket.

use std::fmt;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

/// The address of an HTTP server: `http://host[:port][/prefix]`, `https://…` or `unix:///path`.
///
/// It never holds credentials, so it may be printed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was written, without a slash at its end.
    text: String,
    pub(super) socket: Option<PathBuf>,
}

/// Why a text is no [`Endpoint`]. Does not repeat the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither `http://`, `https://` nor `unix:///`.
    #[error("an address begins with http://, https:// or unix:///")]
    Scheme,
    /// `user:password@host`.
    #[error("credentials do not belong into an address, which is stored and shown")]
    Credentials,
    /// Anything after `?` or `#`.
    #[error("an address has no query")]
    Query,
    /// No host, or a port beyond 65535, or characters that can't stand in an address.
    #[error("not an address")]
    Malformed,
}

impl Endpoint {
    /// Reads an address.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(EndpointError::Malformed);
            }
            return Ok(Self {
                text: text.to_owned(),
                socket: Some(Path::new(path).to_owned()),
            });
        }
        let Some(rest) = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
        else {
            return Err(EndpointError::Scheme);
        };
        if rest.contains('@') {
            return Err(EndpointError::Credentials);
        }
        if rest.contains(['?', '#']) {
            return Err(EndpointError::Query);
        }
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        let authority = uri.authority().ok_or(EndpointError::Malformed)?;
        let port = authority.as_str().strip_prefix(authority.host());
        if authority.host().is_empty()
            || !port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some())
        {
            return Err(EndpointError::Malformed);
        }
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            socket: None,
        })
    }

    /// Splits a URL into its server and its path, which is `/` where the URL has none.
    ///
    /// # Errors
    /// Says what is wrong with the server.
    pub fn split(url: &str) -> Result<(Self, &str), EndpointError> {
        let host = url.find("://").map_or(0, |at| at + 3);
        let (server, path) = match url[host..].find('/') {
            Some(at) => url.split_at(host + at),
            None => (url, "/"),
        };
        Ok((Self::parse(server)?, path))
    }

    /// Whether the server has to prove who it is.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// What stands in the `Host` header; `None` behind a Unix socket, and where the address has a path.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let (_, host) = self.text.split_once("://")?;
        (self.socket.is_none() && !host.contains('/')).then_some(host)
    }

    /// The URI of a request. A server behind a Unix socket is called `localhost`, as curl does.
    pub(super) fn uri(&self, path_and_query: &str) -> String {
        match self.socket {
            Some(_) => format!("http://localhost{path_and_query}"),
            None => format!("{}{path_and_query}", self.text),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_as_written() {
        for (text, uri) in [
            ("http://127.0.0.1:8500", "http://127.0.0.1:8500/v1/a?b"),
            ("http://[::1]:8500/", "http://[::1]:8500/v1/a?b"),
            (
                "https://consul.example/prefix/",
                "https://consul.example/prefix/v1/a?b",
            ),
            ("unix:///run/consul.sock", "http://localhost/v1/a?b"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.uri("/v1/a?b"), uri);
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn a_host_is_told_without_scheme_and_path() {
        let host = |text| Endpoint::parse(text).unwrap().host().map(str::to_owned);
        assert_eq!(host("http://[::1]:8500/").as_deref(), Some("[::1]:8500"));
        assert_eq!(host("https://consul.example/prefix"), None);
        assert_eq!(host("unix:///run/consul.sock"), None);
    }

    #[test]
    fn a_url_is_split_behind_its_host() {
        for (url, server, path) in [
            ("http://a:1/b/c?d", "http://a:1", "/b/c?d"),
            ("http://a", "http://a", "/"),
        ] {
            let (endpoint, rest) = Endpoint::split(url).unwrap();
            assert_eq!((endpoint.to_string().as_str(), rest), (server, path));
        }
        Endpoint::split("/nginx_status").unwrap_err();
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, error) in [
            ("127.0.0.1:8500", EndpointError::Scheme),
            ("ftp://host", EndpointError::Scheme),
            ("", EndpointError::Scheme),
            ("http://", EndpointError::Malformed),
            ("http://:80", EndpointError::Malformed),
            ("http://host:99999", EndpointError::Malformed),
            ("http://host:", EndpointError::Malformed),
            ("http://ho st", EndpointError::Malformed),
            ("unix://run/a", EndpointError::Malformed),
            ("http://host/?token=x", EndpointError::Query),
            ("http://me:secret@host", EndpointError::Credentials),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
