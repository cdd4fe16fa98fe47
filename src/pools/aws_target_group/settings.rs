//! The settings of target groups.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Section;
use crate::pools::files;
use crate::world::http::Endpoint;

/// What the config says.
#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    /// ARNs; none: all groups of the region that have one of `targets` in them.
    pub(super) target_groups: Vec<String>,
    /// Ids of instances, and addresses; none: those of this instance.
    pub(super) targets: Vec<String>,
    /// Where groups are looked for; none: that of the instance.
    pub(super) region: Option<String>,
    /// In the format of `~/.aws/credentials`, its profile `default`; none: the environment, the container's or the instance's role.
    pub(super) credentials_file: Option<PathBuf>,
    /// Instead of the region's own.
    pub(super) endpoint: Option<String>,
    /// Where the instance learns about itself.
    pub(super) metadata: String,
    pub(super) ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target_groups: Vec::new(),
            targets: Vec::new(),
            region: None,
            credentials_file: None,
            endpoint: None,
            metadata: "http://169.254.169.254".to_owned(),
            ca_file: None,
        }
    }
}

/// The region of a target group's ARN, `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID`.
pub(super) fn region_of(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    let [
        "arn",
        partition,
        "elasticloadbalancing",
        region,
        account,
        group,
    ] = parts[..]
    else {
        return None;
    };
    let name: Vec<&str> = group.split('/').collect();
    let ["targetgroup", name, id] = name[..] else {
        return None;
    };
    let sound = partition.starts_with("aws")
        && is_region(region)
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && [name, id].into_iter().all(is_word);
    sound.then_some(region)
}

/// Whether `text` may be part of a host's name.
pub(super) fn is_region(text: &str) -> bool {
    is_word(text) && text.contains('-') && !text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Reads and checks the pool's table in the config.
pub(super) fn check(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    for (index, arn) in settings.target_groups.iter().enumerate() {
        if region_of(arn).is_none() {
            let what = "must be a target group's ARN, like \
                        \"arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/0123456789abcdef\"";
            section.fault_item("target_groups", index, what);
        } else if settings.target_groups[..index].contains(arn) {
            section.fault_item("target_groups", index, "is named twice; remove one");
        }
    }
    for (index, target) in settings.targets.iter().enumerate() {
        let is_instance = target.strip_prefix("i-").is_some_and(is_word);
        if !is_instance && target.parse::<IpAddr>().is_err() {
            let what = "must be an instance's id, like \"i-0123456789abcdef0\", or an address";
            section.fault_item("targets", index, what);
        }
    }
    if settings
        .region
        .as_deref()
        .is_some_and(|name| !is_region(name))
    {
        section.fault("region", "must be a region's name, like \"eu-central-1\"");
    }
    for (key, address) in [
        ("endpoint", settings.endpoint.as_deref()),
        ("metadata", Some(settings.metadata.as_str())),
    ] {
        match address.map(Endpoint::parse) {
            Some(Err(error)) => section.fault(key, error),
            Some(Ok(endpoint)) if endpoint.host().is_none() => {
                section.fault(key, "must be http:// or https://, a host, and no path");
            }
            _ => {}
        }
    }
    if let Some(file) = &settings.credentials_file {
        files::check_secret(section, "credentials_file", file);
    }
    if let Some(file) = &settings.ca_file {
        files::check(section, "ca_file", file);
    }
    section.keep(&settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_tells_its_region() {
        let sound = "arn:aws-cn:elasticloadbalancing:cn-north-1:123456789012:targetgroup/web-1/0123456789abcdef";
        assert_eq!(region_of(sound), Some("cn-north-1"));
        for wrong in [
            "",
            "web",
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/web/0123",
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web",
            "arn:aws:elasticloadbalancing:eu-central-1:12345:targetgroup/web/0123",
            "arn:aws:elasticloadbalancing:evil.example/x:123456789012:targetgroup/web/0123",
            "arn:aws:elasticloadbalancing::123456789012:targetgroup/web/0123",
        ] {
            assert_eq!(region_of(wrong), None, "{wrong}");
        }
    }
}
