//! Envoy on this host: the requests that its HTTP listeners have in work (`downstream_rq_active`, which covers HTTP/2 and gRPC streams too).

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page::Page;
use super::{Kind, Probe};
use crate::config::Section;
use crate::world::{Deadline, Root};

/// Envoy's line in the table of probes.
pub(super) const KIND: Kind = Kind {
    name: "envoy",
    about: "the active requests of this host's Envoy, over its admin interface",
    settings,
    build,
};

/// A regular expression of Envoy's, encoded: `downstream_rq_active$`.
const STATS: &str = "/stats?filter=downstream_rq_active%24";
/// The admin interface counts itself.
const ADMIN: &str = "http.admin.";

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    address: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:9901".to_owned(),
        }
    }
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Page::on(&settings.address, STATS) {
        section.fault("address", error);
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> anyhow::Result<Box<dyn Probe>> {
    let settings = Settings::deserialize(settings)?;
    Ok(Box::new(Envoy(Page::on(&settings.address, STATS)?)))
}

struct Envoy(Page);

impl Probe for Envoy {
    fn count(&self, _: &Root, deadline: Deadline) -> anyhow::Result<u64> {
        self.0.count(deadline, active)
    }
}

/// The sum over all listeners of lines like `http.ingress.downstream_rq_active: 3`.
fn active(text: &str) -> anyhow::Result<u64> {
    let mut found = false;
    let mut sum = 0u64;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        let ours = name.starts_with("http.") && !name.starts_with(ADMIN);
        if ours && name.ends_with(".downstream_rq_active") {
            let value: u64 = value
                .trim()
                .parse()
                .with_context(|| format!("{name}: {value:?} is no number"))?;
            sum = sum.saturating_add(value);
            found = true;
        }
    }
    ensure!(
        found,
        "no http.*.downstream_rq_active: no HTTP listener counts requests"
    );
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_but_the_admin_interface_are_added_up() {
        let text = "http.admin.downstream_rq_active: 1\nhttp.a.downstream_rq_active: 2\nhttp.b.downstream_rq_active: 3\n\
            cluster.x.upstream_rq_active: 9\n";
        assert_eq!(active(text).unwrap(), 5);
    }

    #[test]
    fn without_a_listener_it_is_unknown() {
        for text in [
            "",
            "http.admin.downstream_rq_active: 1\n",
            "http.a.downstream_rq_active: many\n",
            "<html>",
        ] {
            active(text).unwrap_err();
        }
    }
}
