//! New TCP connections refused in the kernel, for balancers that no registry can be told about.
//!
//! The first packet of a connection to one of the ports is answered with a reset, by a rule in an nftables table of our own; connections that
//! exist go on. A balancer's check or its next connect fails at once, and it moves on. The table is gone with the rejoin, with a reboot by itself,
//! and no other table is touched.
//!
//! Connections from this host itself are let through: the check before the rejoin, an agent's health checks and supervisord's listeners must
//! see the programs as they are, or a program would be restarted in the middle of its drain.
//!
//! The packet's flags decide, not its connection tracking state: naming that would switch tracking on for the whole host, and take connections that
//! began before for new ones.

use std::collections::BTreeSet;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mark::{self, one_line};
use super::{Context, Health, Kind, Membership, Pool, PoolError, PoolErrorKind, Rejoined};
use crate::config::Section;
use crate::world::exec::{self, ExecError};

/// The firewall's line in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "firewall",
    about: "refuses new TCP connections in the kernel, with an nftables table of its own",
    settings,
    build,
    find: None,
};

const TABLE: &str = "drainctl";
const CHAIN: &str = "refuse";
/// The longest comment that a rule takes, in bytes.
const LONGEST_COMMENT: usize = 127;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    ports: BTreeSet<u16>,
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if settings.ports.contains(&0) {
        section.fault(
            "ports",
            "must list ports, 1 to 65535; none: what the target listens on",
        );
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    Ok(Box::new(Firewall {
        ports: settings.ports,
    }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct Firewall {
    /// None until the drain says what the target listens on.
    ports: BTreeSet<u16>,
}

/// What a receipt keeps.
#[derive(Serialize, Deserialize)]
struct Before {
    /// The comment that our rule carries.
    mark: String,
    /// That of somebody else's rule that refuses the same already.
    #[serde(default)]
    stood: Option<String>,
    /// What is refused, where the settings don't say.
    #[serde(default)]
    ports: BTreeSet<u16>,
}

impl Before {
    fn read(before: &Value) -> Result<Self, PoolError> {
        let before = Self::deserialize(before)
            .map_err(|error| anyhow!(error))
            .and_then(|before| {
                let mark = &before.mark;
                // A string of nft's language knows no escapes.
                let fits = mark.len() <= LONGEST_COMMENT
                    && !mark.contains(|c: char| c == '"' || c.is_control());
                fits.then_some(before)
                    .ok_or_else(|| anyhow!("its mark can't be a comment"))
            });
        before.map_err(|error| local(error.context("receipt")))
    }
}

impl Before {
    /// What is refused; in receipts of older versions only the settings say.
    fn ports<'p>(&'p self, configured: &'p BTreeSet<u16>) -> &'p BTreeSet<u16> {
        if configured.is_empty() {
            &self.ports
        } else {
            configured
        }
    }
}

/// Our table as it stands.
#[derive(Default)]
struct Table {
    rules: Vec<Rule>,
    exists: bool,
    /// Whether there is more in it than our chain and its rules.
    holds_more: bool,
}

/// A rule of our chain.
struct Rule {
    handle: u64,
    comment: String,
    /// The ports to which it refuses every new connection from elsewhere; none where it does something else.
    refuses: BTreeSet<u16>,
}

impl Table {
    /// The rule, or the rules with one comment, that refuse all of `ports`.
    fn refusing(&self, ports: &BTreeSet<u16>, wanted: impl Fn(&str) -> bool) -> Option<&str> {
        self.rules
            .iter()
            .map(|rule| rule.comment.as_str())
            .find(|comment| {
                let same = self.rules.iter().filter(|rule| rule.comment == **comment);
                let refused: BTreeSet<u16> = same.flat_map(|rule| &rule.refuses).copied().collect();
                wanted(comment) && !refused.is_empty() && refused.is_superset(ports)
            })
    }
}

impl Firewall {
    fn somebody_elses(&self, table: &Table, ports: &BTreeSet<u16>) -> Option<String> {
        if ports.is_empty() {
            return None;
        }
        let comment = table.refusing(ports, |comment| !mark::is_ours(comment))?;
        Some(format!(
            "a rule in {TABLE} that is not ours: {}",
            one_line(comment)
        ))
    }
}

impl Pool for Firewall {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        if self.ports.is_empty() {
            return Err(local(anyhow!(
                "none of the target's ports is known; name some in ports"
            )));
        }
        let table = read(cx)?;
        let ours = table.rules.iter().map(|rule| &rule.comment);
        let ours = ours.into_iter().find(|comment| mark::is_ours(comment));
        let before = Before {
            mark: ours.cloned().unwrap_or_else(mark::new),
            stood: self.somebody_elses(&table, &self.ports),
            ports: self.ports.clone(),
        };
        serde_json::to_value(before).map_err(local)
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        let before = Before::read(before)?;
        let is_mark = |comment: &str| comment == before.mark;
        let ports = before.ports(&self.ports);
        if before.stood.is_some() || read(cx)?.refusing(ports, is_mark).is_some() {
            return Ok(());
        }
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let script = format!(
            "add table inet {TABLE}\n\
             add chain inet {TABLE} {CHAIN} {{ type filter hook input priority -5; policy accept; }}\n\
             add rule inet {TABLE} {CHAIN} iif != lo tcp dport {{ {} }} tcp flags & (fin | syn | rst | ack) == syn \
             counter reject with tcp reset comment \"{}\"\n",
            ports.join(", "),
            before.mark,
        );
        change(cx, &script)
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        let table = read(cx)?;
        // Where nobody has said which ports, a rule of ours tells.
        let wanted = |comment: &str| !self.ports.is_empty() || mark::is_ours(comment);
        Ok(match table.refusing(&self.ports, wanted) {
            Some(_) => Membership::Out,
            None => Membership::In,
        })
    }

    fn wanted_ports(&mut self) -> Option<&mut BTreeSet<u16>> {
        self.ports.is_empty().then_some(&mut self.ports)
    }

    fn refuses(&self) -> bool {
        true
    }

    fn health(&self, _cx: &Context, _before: &Value) -> Result<Health, PoolError> {
        Ok(Health::Passing)
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let before = Before::read(before)?;
        let table = read(cx)?;
        let (ours, others): (Vec<&Rule>, Vec<&Rule>) = table
            .rules
            .iter()
            .partition(|rule| rule.comment == before.mark);
        if others.is_empty() && table.exists && !table.holds_more {
            change(cx, &format!("delete table inet {TABLE}\n"))?;
        } else if !ours.is_empty() {
            let lines = ours
                .iter()
                .map(|rule| format!("delete rule inet {TABLE} {CHAIN} handle {}\n", rule.handle));
            change(cx, &lines.collect::<String>())?;
        }
        Ok(
            match self.somebody_elses(&table, before.ports(&self.ports)) {
                Some(whose) => Rejoined::LeftAlone(whose),
                None => Rejoined::Restored,
            },
        )
    }
}

/// Looks at our table.
fn read(cx: &Context) -> Result<Table, PoolError> {
    let is_ours =
        |entry: &Value| entry["table"]["name"] == TABLE && entry["table"]["family"] == "inet";
    // Asked first, so that a missing table need not be told by the words of an error.
    if !list(cx, &["tables", "inet"])?.iter().any(is_ours) {
        return Ok(Table::default());
    }
    let mut table = Table {
        exists: true,
        ..Table::default()
    };
    let mut hooked = false;
    for entry in list(cx, &["table", "inet", TABLE])? {
        let (chain, rule) = (&entry["chain"], &entry["rule"]);
        if chain["name"] == CHAIN {
            hooked = chain["hook"] == "input" && chain["type"] == "filter";
        } else if rule["chain"] == CHAIN {
            let handle = rule["handle"].as_u64().ok_or_else(bad_answer)?;
            let comment = rule["comment"].as_str().unwrap_or_default().to_owned();
            table.rules.push(Rule {
                handle,
                comment,
                refuses: refused_ports(&rule["expr"]),
            });
        } else if !is_ours(&entry) && entry.get("metainfo").is_none() {
            table.holds_more = true;
        }
    }
    if !hooked {
        // No packet comes by.
        table.rules.iter_mut().for_each(|rule| rule.refuses.clear());
    }
    Ok(table)
}

/// The ports that a rule refuses to everybody but this host. A rule that looks at anything else refuses only some.
fn refused_ports(expressions: &Value) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    let mut refuses = false;
    for expression in expressions.as_array().into_iter().flatten() {
        let matched = &expression["match"];
        if matched["op"] == "==" && matched["left"]["payload"]["field"] == "dport" {
            ports.extend(numbers(&matched["right"]));
        } else if expression.get("reject").is_some() || expression.get("drop").is_some() {
            refuses = true;
        } else if expression.get("counter").is_none() && !spares_nobody(matched) {
            return BTreeSet::new();
        }
    }
    if refuses { ports } else { BTreeSet::new() }
}

/// Whether a match lets nobody through but this host and what is no first packet of a connection.
fn spares_nobody(matched: &Value) -> bool {
    let (op, left, right) = (&matched["op"], &matched["left"], &matched["right"]);
    // With a mask the field is the first operand of an operation.
    let mut fields = [left, &left["&"][0]]
        .into_iter()
        .map(|at| &at["payload"]["field"]);
    let first_packets = fields.any(|field| field == "flags") && op != "!=" && right == "syn";
    let not_from_here = left["meta"]["key"] == "iif" && op == "!=" && right == "lo";
    first_packets || not_from_here
}

/// One number, or a set of numbers and ranges.
fn numbers(value: &Value) -> BTreeSet<u16> {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let members = match value["set"].as_array() {
        Some(members) => members.as_slice(),
        None => std::slice::from_ref(value),
    };
    let mut numbers = BTreeSet::new();
    for member in members {
        numbers.extend(number(member));
        let range = &member["range"];
        if let (Some(first), Some(last)) = (number(&range[0]), number(&range[1])) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

fn list(cx: &Context, what: &[&str]) -> Result<Vec<Value>, PoolError> {
    let argv = [&["nft", "-j", "-a", "list"], what].concat();
    let answer = run(cx, &argv, None)?;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|_| bad_answer())?;
    match answer["nftables"].take() {
        Value::Array(entries) => Ok(entries),
        _ => Err(bad_answer()),
    }
}

/// All of `script` or nothing, in one step.
fn change(cx: &Context, script: &str) -> Result<(), PoolError> {
    run(cx, &["nft", "-f", "-"], Some(script.as_bytes())).map(drop)
}

fn run(cx: &Context, argv: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, PoolError> {
    let output = exec::run(argv, input, cx.deadline).map_err(|error| match error {
        ExecError::TimedOut { .. } => PoolError::new(PoolErrorKind::TimedOut, error),
        ExecError::Start { .. } => local(anyhow!("{error}; install the package nftables")),
        _ => local(error),
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not permitted") {
        let what = "nft: not permitted; it needs root with CAP_NET_ADMIN, which `drainctl install` gives to the units once the config has a firewall pool";
        return Err(PoolError::new(PoolErrorKind::Refused, anyhow!(what)));
    }
    Err(local(anyhow!("nft: {}", one_line(&said))))
}

fn bad_answer() -> PoolError {
    let what = anyhow!("nft: its list is not the JSON that is expected");
    PoolError::new(PoolErrorKind::BadAnswer, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn port(right: Value) -> Value {
        json!({ "match": { "op": "==", "left": { "payload": { "protocol": "tcp", "field": "dport" } }, "right": right } })
    }

    #[test]
    fn only_a_rule_that_refuses_everybody_refuses() {
        let reject = json!({ "reject": { "type": "tcp reset" } });
        let lo =
            json!({ "match": { "op": "!=", "left": { "meta": { "key": "iif" } }, "right": "lo" } });
        let other = json!({ "match": { "op": "!=", "left": { "meta": { "key": "iif" } }, "right": "eth0" } });
        let source = json!({ "match": { "op": "==", "left": { "payload": { "protocol": "ip", "field": "saddr" } }, "right": "10.0.0.1" } });
        let flags = |left: Value| json!({ "match": { "op": "==", "left": left, "right": "syn" } });
        let field = json!({ "payload": { "protocol": "tcp", "field": "flags" } });
        let masked = flags(json!({ "&": [field, ["fin", "syn", "rst", "ack"]] }));
        let set = port(json!({ "set": [80, { "range": [8000, 8002] }] }));
        let counter = json!({ "counter": { "packets": 1, "bytes": 2 } });
        for (expressions, refused) in [
            (
                json!([lo, set, masked, counter, reject]),
                &[80, 8000, 8001, 8002][..],
            ),
            (json!([port(json!(80)), flags(field), reject]), &[80]),
            (json!([port(json!(80)), { "drop": null }]), &[80]),
            (json!([port(json!(80)), { "accept": null }]), &[]),
            (json!([port(json!(80)), source, reject]), &[]),
            (json!([port(json!(80)), other, reject]), &[]),
            (json!([port(json!("http")), reject]), &[]),
            (json!([port(json!({ "range": [9, 1] })), reject]), &[]),
            (json!([port(json!(99999)), reject]), &[]),
            (json!("nothing"), &[]),
        ] {
            let found: Vec<u16> = refused_ports(&expressions).into_iter().collect();
            assert_eq!(found, refused, "{expressions}");
        }
    }
}
