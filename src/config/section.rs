//! One table of the config, read into a struct with every fault that it has.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Range;

use serde::Serialize;
use serde::de::{self, DeserializeOwned};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Faults, Nature};
use super::words::{hidden, plain, printable, suggestion};
use crate::world::Root;

/// So many wrong values in one table are said at once.
const MOST_FAULTS: usize = 50;

/// A fault at an offset into the text of all sources.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) at: usize,
    pub(super) what: String,
    pub(super) nature: Nature,
    /// Seen in the file alone: an unknown key, a wrong type.
    pub(super) shape: bool,
}

/// One table of the config: `[settle]`, or what a pool's type reads of `[pool.NAME]`.
#[derive(Debug)]
pub struct Section<'a> {
    /// As it stands in the file, without brackets; empty for the keys above all tables.
    name: String,
    table: DeTable<'a>,
    header: Range<usize>,
    /// Keys of the same table that somebody else reads: not in it any more, but worth suggesting.
    others: &'static [&'static str],
    root: Option<&'a Root>,
    faults: Vec<Located>,
    /// The keys that have one: a second fault about the same key would only confuse.
    faulty: BTreeSet<String>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        name: impl Into<String>,
        table: DeTable<'a>,
        header: Range<usize>,
        root: Option<&'a Root>,
    ) -> Self {
        Self {
            name: name.into(),
            table,
            header,
            others: &[],
            root,
            faults: Vec::new(),
            faulty: BTreeSet::new(),
        }
    }

    /// Names keys of the same table that another section reads, so that they are suggested too.
    pub(super) fn beside(mut self, others: &'static [&'static str]) -> Self {
        self.others = others;
        self
    }

    /// The values of the table, in a struct that derives `Deserialize` with `#[serde(deny_unknown_fields, default)]`.
    ///
    /// Unknown keys and wrong values become faults at their lines, all of them; the fields concerned keep their defaults, so that
    /// the checks that follow can look at the rest. `None` only where a field without a default is missing.
    pub fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut known = fields::<T>().to_vec();
        known.extend(self.others);
        let (mut table, unknown): (DeTable<'a>, DeTable<'a>) = self
            .table
            .clone()
            .into_iter()
            .partition(|(key, _)| known.contains(&key.get_ref().as_ref()));
        for key in unknown.keys() {
            let name = key.get_ref();
            let hint = suggestion(name, &known, "the keys are");
            let what = format!("unknown key `{name}`{hint}");
            self.push(key.span().start, &what, Nature::Value, true);
        }
        // Each round takes what is at fault out and reads the rest again; bounded, since a round costs as much as the table is long.
        for _ in 0..MOST_FAULTS {
            let whole = toml::Spanned::new(self.header.clone(), table.clone());
            let error = match T::deserialize(toml::de::Deserializer::from(whole)) {
                Ok(settings) => return Some(settings),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(self.header.clone());
            let what = plain(error.message());
            let Some(key) = take_out(&mut table, &span) else {
                // A field is missing; but not if it was taken out above.
                if !self
                    .faulty
                    .iter()
                    .any(|key| what.starts_with(&format!("`{key}`")))
                {
                    self.push(self.header.start, &what, Nature::Value, false);
                }
                return None;
            };
            self.add(&key, span.start, &what, Nature::Value, true);
            self.faulty.insert(key);
        }
        let what = "and more; mend these first";
        self.push(self.header.start, what, Nature::Value, true);
        None
    }

    /// What a receipt keeps of `settings`; they must not contain a secret.
    pub fn keep<T: Serialize>(&mut self, settings: &T) -> Option<Value> {
        match serde_json::to_value(settings) {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(self.header.start, &error.to_string(), Nature::Value, false);
                None
            }
        }
    }

    /// The file system for checks of what the values name; `None` while settings are read that were good once: they stay usable
    /// whatever the host looks like by now.
    #[must_use]
    pub fn root(&self) -> Option<&'a Root> {
        self.root
    }

    /// Says what is wrong with the value of `key`, and the remedy, as a lower-case fragment: "must not be empty".
    ///
    /// The line is that of the key's value, or of the table where the key is absent. An empty `key` is the table itself. Of the
    /// faults of one key only the first is said.
    pub fn fault(&mut self, key: &str, what: impl Display) {
        self.once(key, what, Nature::Value);
    }

    /// As [`Section::fault`], for the value at `index` of the list `key`; each may have a fault.
    pub fn fault_item(&mut self, key: &str, index: usize, what: impl Display) {
        // Where an item was not read at all, `index` means another one.
        if self.faulty.contains(key) {
            return;
        }
        let at = match self.table.get(key).map(|value| value.get_ref()) {
            Some(DeValue::Array(items)) => items.get(index).map(|item| item.span().start),
            _ => None,
        };
        let at = at.unwrap_or_else(|| self.place(key));
        self.add(key, at, &what.to_string(), Nature::Value, false);
    }

    /// Says what is missing around a sound value of `key`: a file that is not there yet.
    pub fn environment(&mut self, key: &str, what: impl Display) {
        self.once(key, what, Nature::Environment);
    }

    /// Whether the file names `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// All faults found so far.
    pub(super) fn into_faults(self) -> Vec<Located> {
        self.faults
    }

    fn place(&self, key: &str) -> usize {
        self.table
            .get(key)
            .map_or(self.header.start, |value| value.span().start)
    }

    fn once(&mut self, key: &str, what: impl Display, nature: Nature) {
        if self.faulty.insert(key.to_owned()) {
            let at = self.place(key);
            self.add(key, at, &what.to_string(), nature, false);
        }
    }

    fn add(&mut self, key: &str, at: usize, what: &str, nature: Nature, shape: bool) {
        let value = self.table.get(key).map(|value| value.get_ref());
        let what = value.map_or(what.to_owned(), |value| hidden(what, key, value));
        let what = match key {
            // About the table as a whole.
            "" => what,
            _ => format!("{key}: {what}"),
        };
        self.push(at, &what, nature, shape);
    }

    fn push(&mut self, at: usize, what: &str, nature: Nature, shape: bool) {
        let what = if self.name.is_empty() {
            printable(what)
        } else {
            printable(&format!("[{}] {what}", self.name))
        };
        self.faults.push(Located {
            at,
            what,
            nature,
            shape,
        });
    }
}

/// Takes the value at `span` out of `table`: the item of a list, or the whole value of the key that is returned.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let within = |value: Range<usize>| value.start <= span.start && span.end <= value.end;
    let (key, value) = table.iter_mut().find(|(_, value)| within(value.span()))?;
    let key = key.get_ref().to_string();
    if let DeValue::Array(items) = value.get_mut()
        && let Some(n) = items.iter().position(|item| within(item.span()))
    {
        let rest = items.iter().enumerate().filter(|(at, _)| *at != n);
        *items = rest.map(|(_, item)| item.clone()).collect();
    } else {
        table.remove(key.as_str());
    }
    Some(key)
}

/// What `settings` reads of a table that stands alone in `text`, and every fault that it finds: how a pool's type tests its settings,
/// and how its defaults are had (from no text at all).
///
/// # Errors
/// The faults, with `text` as their file.
pub fn read_alone(
    text: &str,
    root: Option<&Root>,
    settings: impl FnOnce(&mut Section<'_>) -> Option<Value>,
) -> Result<Value, Faults> {
    let one = |at: usize, what: &str, nature| Fault {
        path: "text".to_owned(),
        line: line_at(text, at),
        what: what.to_owned(),
        nature,
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            return Err(Faults::from_iter([one(at, error.message(), Nature::Value)]));
        }
    };
    let header = table.span();
    let mut section = Section::new("", table.into_inner(), header, root);
    let value = settings(&mut section);
    let faults: Faults = section
        .into_faults()
        .iter()
        .map(|fault| one(fault.at, &fault.what, fault.nature))
        .collect();
    value.filter(|_| faults.is_empty()).ok_or(faults)
}

/// The line, from 1, of the byte at `at`.
pub(super) fn line_at(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The keys that `T` takes, as its derived `Deserialize` names them.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let found = Cell::new(&[][..]);
    // Always an error: only the question is of interest.
    let _ = T::deserialize(Fields(&found));
    found.get()
}

/// A deserializer that only notes which fields it was asked for.
struct Fields<'c>(&'c Cell<&'static [&'static str]>);

impl<'de> de::Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.set(fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("nothing to read"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Pool {
        address: String,
        port: u16,
        services: Vec<String>,
        token: Option<String>,
        scope: Scope,
        #[serde(with = "crate::config::duration")]
        pause: std::time::Duration,
    }

    #[derive(Default, Deserialize, Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Scope {
        #[default]
        Node,
        Services,
    }

    impl Default for Pool {
        fn default() -> Self {
            Self {
                address: "localhost".to_owned(),
                port: 8500,
                services: Vec::new(),
                token: None,
                scope: Scope::default(),
                pause: std::time::Duration::from_secs(1),
            }
        }
    }

    fn settings(section: &mut Section<'_>) -> Option<Value> {
        let pool: Pool = section.read()?;
        for (n, service) in pool.services.iter().enumerate() {
            if service.is_empty() {
                section.fault_item("services", n, "must not be empty");
            }
        }
        if let Some(token) = &pool.token
            && token.len() < 9
        {
            section.fault("token", format!("{token} is too short"));
        }
        section.keep(&pool)
    }

    fn said(text: &str) -> String {
        match read_alone(text, None, settings) {
            Ok(value) => value.to_string(),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn no_text_gives_the_defaults() {
        assert_eq!(
            said(""),
            r#"{"address":"localhost","pause":"1s","port":8500,"scope":"node","services":[],"token":null}"#
        );
    }

    #[test]
    fn every_fault_is_said_at_its_line() {
        insta::assert_snapshot!(
            said(
                "adress = \"a\"\nport = \"80\"\nscope = \"cluster\"\npause = 5\nservices = [\n  \"a\",\n  \"\",\n  \"\",\n]\nfrobnicate = 1\n"
            ),
            @r#"
        text:1: unknown key `adress`; did you mean `address`?
        text:2: port: must be a whole number up to 65535, not a string
        text:3: scope: unknown value `cluster`, expected `node` or `services`
        text:4: pause: `5` has no unit; write it like "5m", "1m 30s" or "500ms"
        text:7: services: must not be empty
        text:8: services: must not be empty
        text:10: unknown key `frobnicate`; the keys are `address`, `port`, `services`, `token`, `scope`, `pause`
        "#
        );
        assert_eq!(
            said("port = 70000"),
            "text:1: port: must be a whole number up to 65535"
        );
        assert_eq!(
            said("services = \"a\""),
            "text:1: services: must be a list, not a string"
        );
    }

    #[test]
    fn a_secret_is_never_shown() {
        for text in [
            "token = \"hunter2\"",
            "token = 1234567",
            "token = [\"hunter2\"]",
            "token = { password = \"hunter2\" }",
            "token = \"hunter2\"\nscope = 5",
        ] {
            let said = said(text);
            assert!(
                !said.contains("hunter2") && !said.contains("1234567"),
                "{said}"
            );
            assert!(said.starts_with("text:1: token: "), "{said}");
        }
    }
}
