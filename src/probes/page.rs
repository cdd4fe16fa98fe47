//! A page of text over HTTP with numbers in it.

use anyhow::{Context as _, ensure};

use crate::text::one_line;
use crate::world::Deadline;
use crate::world::http::{Client, Endpoint, EndpointError, Tls};

/// So much of an unexpected answer is shown, in characters.
const SHOWN: usize = 80;

/// Where it is.
#[derive(Clone, Debug)]
pub(super) struct Page {
    server: Endpoint,
    path: String,
}

impl Page {
    /// The page of a URL, `http://` or `https://`.
    pub(super) fn of_url(url: &str) -> Result<Self, EndpointError> {
        let (server, path) = Endpoint::split(url)?;
        Ok(Self {
            server,
            path: path.to_owned(),
        })
    }

    /// A page of a server, which may be a Unix socket. `path` begins with a slash and is encoded.
    pub(super) fn on(server: &str, path: &str) -> Result<Self, EndpointError> {
        Ok(Self {
            server: Endpoint::parse(server)?,
            path: path.to_owned(),
        })
    }

    /// What it says now.
    pub(super) fn read(&self, deadline: Deadline) -> anyhow::Result<String> {
        let client = Client::new(&self.server, &Tls::default())?;
        let answer = client.request("GET", &self.path, &[], None, deadline)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(
            answer.status == 200,
            "{}{}: status {}: {}",
            self.server,
            self.path,
            answer.status,
            one_line(&text, SHOWN)
        );
        Ok(text)
    }

    /// What `count` finds in it.
    pub(super) fn count(
        &self,
        deadline: Deadline,
        count: impl Fn(&str) -> anyhow::Result<u64>,
    ) -> anyhow::Result<u64> {
        let text = self.read(deadline)?;
        count(&text).with_context(|| format!("{}{}", self.server, self.path))
    }
}
