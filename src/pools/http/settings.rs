//! The settings of a place with an HTTP API: its requests as templates, and what its answers mean.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Section;
use crate::pools::files;
use crate::world::http::{Endpoint, encode};

/// What the config says.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) address: String,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) headers: BTreeMap<String, String>,
    /// Files that hold the values of headers.
    pub(super) header_files: BTreeMap<String, PathBuf>,
    /// Requests as `METHOD /path`.
    pub(super) status: String,
    pub(super) leave: String,
    pub(super) leave_body: Option<String>,
    pub(super) rejoin: String,
    pub(super) rejoin_body: Option<String>,
    /// The statuses with which leaving and rejoining succeed; empty: 200–299.
    pub(super) accept: Vec<u16>,
    /// Where in the JSON of the status answer its value is (RFC 6901); none: its HTTP status is the value.
    pub(super) pointer: Option<String>,
    /// The values with which traffic is sent; empty: all others.
    pub(super) r#in: Vec<Value>,
    /// The values with which none is sent; the first is what leaving makes.
    pub(super) out: Vec<Value>,
}

/// What stands in for text in a template.
pub(super) struct Words {
    pub(super) host: String,
    /// The status value before the leave.
    pub(super) before: Option<String>,
}

/// The method and the path of a request.
pub(super) fn split(request: &str) -> Option<(&str, &str)> {
    let (method, path) = request.split_once(' ')?;
    let sound = !method.is_empty()
        && method.chars().all(|c| c.is_ascii_uppercase())
        && path.starts_with('/')
        && path.chars().all(|c| c.is_ascii_graphic() && c != '#');
    sound.then_some((method, path))
}

impl Words {
    /// The path with its words filled in, each as one segment or one value of a query.
    pub(super) fn in_path(&self, path: &str) -> String {
        self.fill(path, encode)
    }

    /// The body with its words filled in, each fit for a string of JSON.
    pub(super) fn in_body(&self, body: &str) -> String {
        self.fill(body, |word| {
            let quoted = Value::from(word).to_string();
            let inner = quoted
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            inner.unwrap_or_default().to_owned()
        })
    }

    fn fill(&self, text: &str, fit: impl Fn(&str) -> String) -> String {
        let text = text.replace("{host}", &fit(&self.host));
        match &self.before {
            Some(before) => text.replace("{before}", &fit(before)),
            None => text,
        }
    }
}

/// Reads and checks the pool's table in the config.
pub(super) fn check(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Endpoint::parse(&settings.address) {
        section.fault("address", error);
    }
    for (key, request, known) in [
        ("status", &settings.status, &["{host}"][..]),
        ("leave", &settings.leave, &["{host}"]),
        ("rejoin", &settings.rejoin, &["{host}", "{before}"]),
    ] {
        let Some((_, path)) = split(request) else {
            section.fault(key, "must be a request like \"PUT /path?query\"");
            continue;
        };
        let rest = known
            .iter()
            .fold(path.to_owned(), |path, word| path.replace(word, ""));
        if rest.contains(['{', '}']) {
            let what = format!("only {} may stand in braces", known.join(" and "));
            section.fault(key, what);
        }
    }
    for (name, value) in &settings.headers {
        let lower = name.to_ascii_lowercase();
        let secret = ["authorization", "cookie", "token", "secret", "key"];
        if secret.iter().any(|word| lower.contains(word)) {
            // It would be kept in receipts.
            let what = "a secret has no place in the config; put its value into a file and that into header_files";
            section.fault("headers", what);
        } else if !is_header(name) || value.contains(char::is_control) {
            section.fault("headers", "holds what can't be sent as a header");
        }
    }
    for (name, file) in &settings.header_files {
        if is_header(name) {
            files::check_secret(section, "header_files", file);
        } else {
            section.fault("header_files", "holds what is no header's name");
        }
    }
    if let Some(file) = &settings.ca_file {
        files::check(section, "ca_file", file);
    }
    if settings
        .pointer
        .as_ref()
        .is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/'))
    {
        section.fault(
            "pointer",
            "must begin with a slash, like \"/instance/status\"",
        );
    }
    if settings.out.is_empty() {
        section.fault(
            "out",
            "must name the value that says that nothing is sent here",
        );
    }
    for (key, values) in [("out", &settings.out), ("in", &settings.r#in)] {
        for (index, value) in values.iter().enumerate() {
            if value.is_array() || value.is_object() {
                section.fault_item(key, index, "must be a text, a number or a boolean");
            } else if settings.pointer.is_none() && !is_status(value) {
                let what = "must be an HTTP status, as no pointer is set";
                section.fault_item(key, index, what);
            } else if key == "in" && settings.out.contains(value) {
                section.fault_item(key, index, "is named in out too");
            }
        }
    }
    for (index, status) in settings.accept.iter().enumerate() {
        if !(100..1000).contains(status) {
            section.fault_item("accept", index, "must be an HTTP status");
        }
    }
    section.keep(&settings)
}

fn is_status(value: &Value) -> bool {
    value.as_u64().is_some_and(|n| (100..1000).contains(&n))
}

/// A token of RFC 9110.
fn is_header(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_stays_in_its_place() {
        let words = Words {
            host: "a/b?c=\"".to_owned(),
            before: Some("x\ny".to_owned()),
        };
        assert_eq!(
            words.in_path("/v1/{host}?w={before}"),
            "/v1/a%2Fb%3Fc%3D%22?w=x%0Ay"
        );
        assert_eq!(
            words.in_body(r#"{"host":"{host}","w":"{before}"}"#),
            r#"{"host":"a/b?c=\"","w":"x\ny"}"#
        );
    }
}
