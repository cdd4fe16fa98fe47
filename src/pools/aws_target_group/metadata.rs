//! What an instance of EC2 is told about itself, by the second version of its metadata service: with a token, which no request that
//! somebody else could smuggle in would have.

use std::time::Duration;

use anyhow::anyhow;

use super::local;
use super::settings::Settings;
use crate::pools::mark::one_line;
use crate::pools::{Context, PoolError, PoolErrorKind};
use crate::world::Deadline;
use crate::world::http::{Client, Endpoint, Tls};

/// The service is on the same machine; where there is none, nobody may answer at all.
const CALL: Duration = Duration::from_secs(2);

/// The service, for the calls of one operation.
pub(super) struct Metadata {
    client: Client,
    endpoint: Endpoint,
    token: String,
    deadline: Deadline,
}

impl Metadata {
    /// Asks for a token.
    pub(super) fn open(settings: &Settings, cx: &Context) -> Result<Self, PoolError> {
        let endpoint = Endpoint::parse(&settings.metadata).map_err(local)?;
        let client = Client::new(&endpoint, &Tls::default())?;
        let lifetime = [("X-aws-ec2-metadata-token-ttl-seconds", "60")];
        let answer = client.request(
            "PUT",
            "/latest/api/token",
            &lifetime,
            None,
            cx.deadline.within(CALL),
        )?;
        let token = String::from_utf8_lossy(&answer.body).trim().to_owned();
        let sound = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
        if answer.status != 200 || !sound {
            let status = answer.status;
            let what = anyhow!("{endpoint}: no token for the instance's metadata: status {status}");
            return Err(PoolError::new(kind(status), what));
        }
        Ok(Self {
            client,
            endpoint,
            token,
            deadline: cx.deadline,
        })
    }

    /// What stands at `path` below `/latest/meta-data/`; `None` where there is nothing.
    pub(super) fn get(&self, path: &str) -> Result<Option<String>, PoolError> {
        let answer = self.client.request(
            "GET",
            &format!("/latest/meta-data/{path}"),
            &[("X-aws-ec2-metadata-token", &self.token)],
            None,
            self.deadline.within(CALL),
        )?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => Ok(Some(text)),
            404 => Ok(None),
            status => {
                let (endpoint, said) = (&self.endpoint, one_line(&text));
                let said = said.replace(&self.token, "[secret]");
                let what = anyhow!("{endpoint}: {path}: status {status}: {said}");
                Err(PoolError::new(kind(status), what))
            }
        }
    }

    /// One line, which has to be there.
    pub(super) fn line(&self, path: &str) -> Result<String, PoolError> {
        let line = self.get(path)?.map(|text| one_line(&text));
        line.filter(|line| !line.is_empty()).ok_or_else(|| {
            let what = anyhow!("{}: no {path} of this instance", self.endpoint);
            PoolError::new(PoolErrorKind::BadAnswer, what)
        })
    }
}

fn kind(status: u16) -> PoolErrorKind {
    match status {
        401 | 403 => PoolErrorKind::Refused,
        429 | 500..=599 => PoolErrorKind::Unreachable,
        _ => PoolErrorKind::BadAnswer,
    }
}
