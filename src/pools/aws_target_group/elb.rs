//! What is asked of Elastic Load Balancing (its query API, version 2015-12-01), and what of its answers matters.

use std::net::IpAddr;

use anyhow::anyhow;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::local;
use super::settings::region_of;
use super::sign::{self, Credentials, Scope};
use super::xml::{self, Answer};
use crate::pools::mark::one_line;
use crate::pools::{PoolError, PoolErrorKind};
use crate::world::Deadline;
use crate::world::http::{Client, Endpoint, Tls, encode};

/// So many pages of groups are read at most; a page has up to 400.
const PAGES: usize = 25;

/// One target: the same instance may be one several times, at different ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Target {
    /// The id of an instance, or an address.
    pub(super) id: String,
    pub(super) port: Option<u16>,
    /// As the group names it; `all` for an address outside of its network.
    #[serde(default)]
    pub(super) zone: Option<String>,
}

/// A target as its group sees it.
pub(super) struct Seen {
    pub(super) target: Target,
    /// `healthy`, `unhealthy`, `initial`, `draining`, `unavailable`, `unused`.
    pub(super) state: String,
}

impl Seen {
    /// Whether requests are sent to it, or would be as soon as its checks pass.
    pub(super) fn is_registered(&self) -> bool {
        self.state != "draining"
    }
}

/// The service, for the calls of one operation.
pub(super) struct Elb {
    pub(super) credentials: Credentials,
    /// Instead of a region's own.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) tls: Tls,
    pub(super) deadline: Deadline,
}

impl Elb {
    /// The ARNs of all groups in `region` that hold instances or addresses.
    pub(super) fn groups(&self, region: &str) -> Result<Vec<String>, PoolError> {
        let mut groups = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES {
            let mut form = Form::new("DescribeTargetGroups");
            if let Some(marker) = &marker {
                form.add("Marker", marker);
            }
            let answer = self.call(region, form)?;
            let rows = answer.rows("TargetGroups");
            let arns = rows
                .filter(|row| matches!(row.get("TargetType"), None | Some("instance" | "ip")))
                .filter_map(|row| row.get("TargetGroupArn"))
                .filter(|arn| region_of(arn) == Some(region));
            groups.extend(arns.map(str::to_owned));
            marker = answer.value("NextMarker").map(str::to_owned);
            if marker.is_none() {
                return Ok(groups);
            }
        }
        let what = anyhow!(
            "more target groups in {region} than can be looked at; name this host's in target_groups"
        );
        Err(local(what))
    }

    /// All targets of `group`.
    pub(super) fn targets(&self, group: &str) -> Result<Vec<Seen>, PoolError> {
        let mut form = Form::new("DescribeTargetHealth");
        form.add("TargetGroupArn", group);
        let answer = self.call(region(group)?, form)?;
        if !answer.has("TargetHealthDescriptions") {
            let what = "no list of targets in its answer";
            return Err(self.error(PoolErrorKind::BadAnswer, group, what));
        }
        let bad = || {
            self.error(
                PoolErrorKind::BadAnswer,
                group,
                "a target without id, port or state",
            )
        };
        let mut targets = Vec::new();
        for row in answer.rows("TargetHealthDescriptions") {
            let state = row.get("TargetHealth/State").ok_or_else(bad)?;
            // Not in the group: only told when asked for by its id.
            if row.get("TargetHealth/Reason") == Some("Target.NotRegistered") {
                continue;
            }
            let port = row.get("Target/Port").map(str::parse).transpose();
            targets.push(Seen {
                target: Target {
                    id: row.get("Target/Id").ok_or_else(bad)?.to_owned(),
                    port: port.map_err(|_| bad())?,
                    zone: row.get("Target/AvailabilityZone").map(str::to_owned),
                },
                state: one_line(state),
            });
        }
        Ok(targets)
    }

    /// Takes exactly these targets out: without its port, another one of the same instance might go.
    pub(super) fn deregister(&self, group: &str, targets: &[&Target]) -> Result<(), PoolError> {
        self.change("DeregisterTargets", group, targets)
    }

    /// Puts them back as they were.
    pub(super) fn register(&self, group: &str, targets: &[&Target]) -> Result<(), PoolError> {
        self.change("RegisterTargets", group, targets)
    }

    fn change(
        &self,
        action: &'static str,
        group: &str,
        targets: &[&Target],
    ) -> Result<(), PoolError> {
        let mut form = Form::new(action);
        form.add("TargetGroupArn", group);
        for (index, target) in targets.iter().enumerate() {
            let member = format!("Targets.member.{}", index + 1);
            form.add(&format!("{member}.Id"), &target.id);
            if let Some(port) = target.port {
                form.add(&format!("{member}.Port"), &port.to_string());
            }
            // The zone of an instance is refused: it goes without saying.
            if let Some(zone) = &target.zone
                && target.id.parse::<IpAddr>().is_ok()
            {
                form.add(&format!("{member}.AvailabilityZone"), zone);
            }
        }
        self.call(region(group)?, form).map(drop)
    }

    fn call(&self, region: &str, form: Form) -> Result<Answer, PoolError> {
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Endpoint::parse(&own_endpoint(region)).map_err(local)?,
        };
        let host = endpoint
            .host()
            .ok_or_else(|| local(anyhow!("{endpoint}: must be a host without a path")))?;
        let scope = Scope {
            region,
            service: "elasticloadbalancing",
            host,
        };
        let body = form.text.into_bytes();
        let headers = sign::headers(&self.credentials, &scope, &body, Timestamp::now());
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = Client::new(&endpoint, &self.tls)?.request(
            "POST",
            "/",
            &headers,
            Some(&body),
            self.deadline,
        )?;
        let read = xml::read(&answer.body);
        if answer.status == 200 {
            // Its parser's errors may repeat the text.
            return read.ok_or_else(|| {
                let what = format!("{}: not its XML", form.action);
                self.error(PoolErrorKind::BadAnswer, &endpoint.to_string(), &what)
            });
        }
        let told = |name| read.as_ref().and_then(|answer| answer.value(name));
        let code = told("Code").unwrap_or_default();
        let kind = kind(answer.status, code);
        let message = told("Message").unwrap_or("no message");
        let what = format!(
            "{}: status {}: {code} {message}",
            form.action, answer.status
        );
        Err(self.error(kind, &endpoint.to_string(), &what))
    }

    fn error(&self, kind: PoolErrorKind, of: &str, what: &str) -> PoolError {
        // What is refused is often repeated, and secrets with it.
        let what = one_line(&self.credentials.hide(what));
        PoolError::new(kind, anyhow!("{of}: {what}"))
    }
}

fn region(group: &str) -> Result<&str, PoolError> {
    region_of(group).ok_or_else(|| local(anyhow!("{group:?} is not a target group's ARN")))
}

fn own_endpoint(region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://elasticloadbalancing.{region}.amazonaws.com{china}")
}

fn kind(status: u16, code: &str) -> PoolErrorKind {
    match (status, code) {
        (_, "TargetGroupNotFound" | "InvalidTarget") => PoolErrorKind::NotMember,
        (429 | 500..=599, _)
        | (_, "Throttling" | "ThrottlingException" | "RequestLimitExceeded") => {
            PoolErrorKind::Unreachable
        }
        (401 | 403, _)
        | (
            _,
            "AccessDenied"
            | "AccessDeniedException"
            | "AuthFailure"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "UnauthorizedOperation"
            | "UnrecognizedClientException",
        ) => PoolErrorKind::Refused,
        _ => PoolErrorKind::BadAnswer,
    }
}

/// The body of a call.
struct Form {
    action: &'static str,
    text: String,
}

impl Form {
    fn new(action: &'static str) -> Self {
        Self {
            action,
            text: format!("Action={action}&Version=2015-12-01"),
        }
    }

    fn add(&mut self, key: &str, value: &str) {
        self.text.push('&');
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(&encode(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_its_own_endpoint() {
        assert_eq!(
            own_endpoint("eu-central-1"),
            "https://elasticloadbalancing.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            own_endpoint("cn-north-1"),
            "https://elasticloadbalancing.cn-north-1.amazonaws.com.cn"
        );
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        assert_eq!(kind(400, "Throttling"), PoolErrorKind::Unreachable);
        assert_eq!(kind(503, ""), PoolErrorKind::Unreachable);
        assert_eq!(kind(400, "TargetGroupNotFound"), PoolErrorKind::NotMember);
        assert_eq!(kind(400, "ExpiredToken"), PoolErrorKind::Refused);
        assert_eq!(kind(403, ""), PoolErrorKind::Refused);
        assert_eq!(kind(400, "ValidationError"), PoolErrorKind::BadAnswer);
    }
}
