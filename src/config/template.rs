//! The config that `install` writes.

use std::fmt::Write;

use serde_json::Value;

/// What `install` found on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The units to be drained before they stop.
    pub units: Vec<String>,
    /// The pools.
    pub pools: Vec<FoundPool>,
}

/// A pool that `install` found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundPool {
    /// Its name, which is a type's unless `type` is among its keys.
    pub name: String,
    /// How it was found, one line.
    pub why: String,
    /// Its keys: strings, numbers, booleans and lists of them.
    pub keys: Vec<(String, Value)>,
}

impl FoundPool {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &str {
        let named = self.keys.iter().find(|(key, _)| key == "type");
        named
            .and_then(|(_, value)| value.as_str())
            .unwrap_or(&self.name)
    }
}

/// Every key with its default, commented.
pub const DEFAULTS: &str = include_str!("default.toml");

/// A config with what was found and nothing else: what is not named keeps its default.
#[must_use]
pub fn template(found: &Found) -> String {
    let mut text = String::from(
        "# drainctl: what is not named here has its default.\n\
         # Later files win, key by key: put what is local to a host into /etc/drainctl/conf.d/*.toml.\n\n\
         # The units that must not be stopped before the drain is over.\n",
    );
    // JSON's strings, numbers and lists are TOML as well.
    let _ = writeln!(text, "units = {}", toml(&Value::from(found.units.clone())));
    for pool in &found.pools {
        let _ = write!(text, "\n# {}\n[pool.{}]\n", pool.why, pool.name);
        for (key, value) in &pool.keys {
            let _ = writeln!(text, "{key} = {}", toml(value));
        }
    }
    text
}

/// The value in TOML. All of JSON's scalars and lists are TOML as they stand, but for null, which has no place in a config, and the
/// control character that JSON leaves as it is.
fn toml(value: &Value) -> String {
    value.to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, from_sources};

    #[test]
    fn a_template_reads_as_what_was_found() {
        let found = Found {
            units: vec!["supervisor.service".to_owned()],
            pools: Vec::new(),
        };
        insta::assert_snapshot!(template(&found), @r#"
        # drainctl: what is not named here has its default.
        # Later files win, key by key: put what is local to a host into /etc/drainctl/conf.d/*.toml.

        # The units that must not be stopped before the drain is over.
        units = ["supervisor.service"]
        "#);
        let settings = from_sources(&[Source {
            path: "template".to_owned(),
            text: template(&found),
        }]);
        assert_eq!(settings.unwrap().units, found.units);
    }

    #[test]
    fn any_string_survives() {
        let odd = "a\"b\\c\n\t\u{1}\u{7f}é😀";
        let text = format!("x = {}", toml(&Value::from(odd)));
        let table = ::toml::de::DeTable::parse(&text).unwrap();
        let read = table.get_ref().get("x").and_then(|x| x.get_ref().as_str());
        assert_eq!(read, Some(odd));
    }
}
