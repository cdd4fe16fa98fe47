//! Proves before a shutdown that its drain would work: facts gathered once, then judged by a table of small pure checks.

mod around;
mod checks;
mod facts;
mod fix;
mod grace;
mod holds;
mod hook;
mod limits;
mod order;
pub mod picture;
mod places;
mod ports;
mod sandbox;
mod sight;
mod text;
mod wrapped;

use serde::Serialize;

pub use facts::{Facts, gather};
pub use fix::{Fix, fixes};
pub use limits::{FirstCut, Limit, chain, first_to_cut};
pub use sight::Sight;
pub use text::print;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What would happen at the next shutdown, in one sentence.
    pub what: String,
    /// What it was seen by.
    pub seen: Vec<Evidence>,
    /// What to do about it; never empty.
    pub mend: Vec<Mend>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// The drain works, and something is not as it should be.
    Warning,
    /// Requests would be cut, or the host would not come back.
    Error,
}

/// A property as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The unit, file or pool.
    pub of: String,
    /// The property's name; empty where `value` says everything.
    pub property: String,
    /// Its value.
    pub value: String,
}

/// A remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mend {
    /// A command line for a shell of root.
    Run(String),
    /// Lines for a file.
    Set {
        /// The file.
        file: String,
        /// What has to stand in it.
        lines: Vec<String>,
    },
    /// What only a person can do.
    Hand(String),
}

/// The parts of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see `about`")]
pub enum Section {
    Hook,
    Order,
    Limits,
    Pools,
    State,
}

impl Section {
    /// In the order of the report.
    pub const ALL: [Self; 5] = [
        Self::Hook,
        Self::Order,
        Self::Limits,
        Self::Pools,
        Self::State,
    ];

    /// Its name, and what holds when nothing is found in it.
    #[must_use]
    pub fn about(self) -> (&'static str, &'static str) {
        match self {
            Self::Hook => ("hook", "ready to drain, and allowed to see what it has to"),
            Self::Order => ("order", "what the drain needs is stopped after it"),
            Self::Limits => ("limits", "no time limit cuts the drain short"),
            Self::Pools => ("pools", "each answers, and knows this host"),
            Self::State => ("state", "nothing is left over"),
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Its name; never changes.
    pub name: &'static str,
    /// Where it is reported.
    pub section: Section,
    /// What it finds. Pure.
    pub find: fn(&Facts) -> Vec<Finding>,
}

const fn check(name: &'static str, section: Section, find: fn(&Facts) -> Vec<Finding>) -> Check {
    Check {
        name,
        section,
        find,
    }
}

/// All checks, in the order of the report.
pub const CHECKS: &[Check] = &[
    check("hook-loaded", Section::Hook, hook::loaded),
    check("hook-stop", Section::Hook, hook::stop),
    check("hook-enabled", Section::Hook, hook::enabled),
    check("hook-active", Section::Hook, hook::active),
    check("hook-wanted", Section::Hook, hook::wanted),
    check("hook-restart", Section::Hook, hook::restart),
    check("hook-sandbox", Section::Hook, hook::sandbox),
    check("hook-files", Section::Hook, hook::files),
    check("hook-reload", Section::Hook, hook::reload),
    check("hook-drop-ins", Section::Hook, checks::drop_ins::find),
    check("hook-conflicts", Section::Hook, checks::fights::find),
    check("hook-tried", Section::Hook, checks::tried::find),
    check("hook-names", Section::Hook, checks::names::find),
    check("hook-why", Section::Hook, checks::why::find),
    check("order-target", Section::Order, order::target),
    check("order-outside", Section::Order, order::outside),
    check("order-elsewhere", Section::Order, checks::elsewhere::find),
    check("order-circle", Section::Order, order::circle),
    check("order-registry", Section::Order, order::registry),
    check("order-hold", Section::Order, holds::hold),
    check("order-used", Section::Order, holds::used),
    check("order-beside", Section::Order, holds::beside),
    check("order-network", Section::Order, order::network),
    check("order-mounts", Section::Order, order::mounts),
    check("limit-heartbeat", Section::Limits, limits::heartbeat),
    check("limit-shutdown", Section::Limits, limits::shutdown),
    check("limit-programs", Section::Limits, limits::programs),
    check("limit-requests", Section::Limits, checks::requests::find),
    check("limit-notice", Section::Limits, checks::notice::find),
    check("limit-delay", Section::Limits, checks::delay::find),
    check("limit-default", Section::Limits, checks::ceiling::find),
    check("limit-crash", Section::Limits, checks::crash::find),
    check("limit-wrapped", Section::Limits, wrapped::programs),
    check("pool-answer", Section::Pools, places::answer),
    check("pool-member", Section::Pools, places::member),
    check("pool-stand-in", Section::Pools, places::stand_in),
    check("pool-out", Section::Pools, places::out),
    check("pool-mark", Section::Pools, checks::lost_mark::find),
    check("pool-rights", Section::Pools, checks::rights::find),
    check("pool-last", Section::Pools, checks::last::find),
    check("pool-readers", Section::Pools, checks::readers::find),
    check("probe-answer", Section::Pools, places::probes),
    check("port-none", Section::State, checks::silent::find),
    check("port-unknown", Section::State, ports::unknown),
    check("port-certificates", Section::State, ports::certificates),
    check("port-streams", Section::State, ports::streams),
    check("state-receipts", Section::State, places::receipts),
    check("state-rejoin", Section::State, places::rejoin),
    check("state-leftovers", Section::State, places::leftovers),
    check("state-lasting", Section::State, places::lasting),
    check("state-scheduled", Section::State, places::scheduled),
];

/// A finding, and the check that made it.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The check's name.
    pub check: &'static str,
    /// Its section.
    pub section: Section,
    /// What it found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Everything that the checks find.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Found> {
    CHECKS
        .iter()
        .flat_map(|check| {
            (check.find)(facts).into_iter().map(|finding| Found {
                check: check.name,
                section: check.section,
                finding,
            })
        })
        .collect()
}

impl Finding {
    fn new(severity: Severity, what: impl Into<String>) -> Self {
        Self {
            severity,
            what: what.into(),
            seen: Vec::new(),
            mend: Vec::new(),
        }
    }

    fn seen(
        mut self,
        of: impl Into<String>,
        property: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.seen.push(Evidence {
            of: of.into(),
            property: property.into(),
            value: value.into(),
        });
        self
    }

    /// A property of a unit.
    fn unit(self, facts: &Facts, unit: &str, property: &str) -> Self {
        self.seen(unit, property, facts.get(unit, property))
    }

    fn run(mut self, command: impl Into<String>) -> Self {
        self.mend.push(Mend::Run(command.into()));
        self
    }

    fn set(mut self, file: impl Into<String>, lines: &[&str]) -> Self {
        self.mend.push(Mend::Set {
            file: file.into(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        });
        self
    }

    fn hand(mut self, what: impl Into<String>) -> Self {
        self.mend.push(Mend::Hand(what.into()));
        self
    }
}

#[cfg(test)]
mod tests;
