//! What the verdicts were, against what was true.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use drainctl::evidence::verdict::{Ages, Segments, Tie, Verdict, Why};

use crate::book::Truth;
use crate::case::Case;

/// Whether the connection had been looked at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    /// Never: so begins every drain.
    First,
    /// Every 50 ms since it was opened.
    Known,
}

/// So many wrong verdicts are kept with their evidence.
const MOST_WRONG: usize = 3;

/// The counts of one workload on one way.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// Looks at requests in flight.
    pub(crate) in_flight: u64,
    /// Of these, those taken for idle.
    pub(crate) false_idle: u64,
    /// Of these, those that could not be told apart.
    unsure_in_flight: u64,
    /// Looks at idle connections.
    idle: u64,
    /// Of these, those taken for busy.
    false_busy: u64,
    /// Of these, those that could not be told apart.
    unsure_idle: u64,
    /// Of these, those with bytes still to be read by the program or to be taken by the peer: rightly busy.
    queued: u64,
    /// Looks during which the truth changed.
    changed: u64,
    /// How long after the answer an idle connection was held at most.
    pub(crate) held: Duration,
    /// And by what evidence.
    holder: Option<String>,
    rules: BTreeMap<String, Rule>,
    wrong: Vec<String>,
}

/// The looks that one rule has judged.
#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    in_flight: u64,
    false_idle: u64,
    idle: u64,
    held: u64,
    longest: Duration,
}

impl Cell {
    /// Counts a look during which the truth changed.
    pub(crate) fn changed(&mut self) {
        self.changed += 1;
    }

    /// Counts a look at a request in flight.
    pub(crate) fn in_flight(&mut self, case: &Case, truth: &Truth) {
        self.in_flight += 1;
        let rule = self.rules.entry(case.rule()).or_default();
        rule.in_flight += 1;
        match case.verdict {
            Verdict::Busy(_) => {}
            Verdict::Uncertain(_) => self.unsure_in_flight += 1,
            Verdict::Idle | Verdict::Overdue => {
                rule.false_idle += 1;
                self.false_idle += 1;
                if self.wrong.len() < MOST_WRONG {
                    self.wrong.push(format!("{} {case}", truth.plan()));
                }
            }
        }
    }

    /// Counts a look, begun at `now`, at an idle connection.
    pub(crate) fn idle(&mut self, case: &Case, truth: &Truth, now: Instant) {
        self.idle += 1;
        let rule = self.rules.entry(case.rule()).or_default();
        rule.idle += 1;
        match case.verdict {
            Verdict::Idle | Verdict::Overdue => return,
            Verdict::Busy(Why::Unread | Why::Unaccepted | Why::Unsent | Why::PeerSilent) => {
                self.queued += 1;
                return;
            }
            Verdict::Busy(_) => self.false_busy += 1,
            Verdict::Uncertain(tie) => {
                self.unsure_idle += 1;
                if tie == Tie::Undecided {
                    // The kernel's table passed it over this time; it holds for one look and no longer.
                    return;
                }
            }
        }
        let idle = truth.idle_for(now);
        rule.held += 1;
        rule.longest = rule.longest.max(idle);
        if idle > self.held {
            self.held = idle;
            self.holder = Some(format!("{} {case}", truth.plan()));
        }
    }
}

/// All cells, by the server's port.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeMap<(u16, Sight), Cell>,
}

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// One request after another, by the rules for those.
    Requests,
    /// HTTP/2, and ports with a rule of their own.
    Streams,
    /// What the defaults don't cover.
    Beyond,
}

/// What is said of a server's port.
pub(crate) struct Label {
    pub(crate) name: String,
    /// What the defaults can't do there, if so.
    pub(crate) beyond: Option<&'static str>,
    /// One request after another.
    pub(crate) requests: bool,
    /// Whether looks without history count too: with HTTP/2 a drain has one from its first look on.
    pub(crate) first: bool,
    /// The longest that an idle connection may be held.
    pub(crate) most: Duration,
}

impl Label {
    fn group(&self) -> Group {
        match self.beyond {
            Some(_) => Group::Beyond,
            None if self.requests => Group::Requests,
            None => Group::Streams,
        }
    }
}

impl Matrix {
    /// The cell of a look.
    pub(crate) fn cell(&mut self, port: u16, sight: Sight) -> &mut Cell {
        self.cells.entry((port, sight)).or_default()
    }

    /// Looks at requests in flight in the rows of a group, each connection once a look; and how many of them found it idle.
    pub(crate) fn looks(
        &self,
        sight: Sight,
        group: Group,
        label: impl Fn(u16) -> Label,
    ) -> (u64, u64) {
        let (mut looks, mut wrong) = (0, 0);
        for ((port, at), cell) in &self.cells {
            if *at == sight && label(*port).group() == group {
                looks += cell.in_flight;
                wrong += cell.false_idle;
            }
        }
        (looks, wrong)
    }

    /// Over all workloads: what the defaults cover, and what they don't.
    pub(crate) fn totals(&self, label: impl Fn(u16) -> Label + Copy) -> String {
        let mut lines = Vec::new();
        for (words, group) in [
            ("HTTP/1.1, with TLS and without", Group::Requests),
            ("HTTP/2 and streams", Group::Streams),
            ("beyond the defaults", Group::Beyond),
        ] {
            for (how, sight) in [
                ("first looks", Sight::First),
                ("with history", Sight::Known),
            ] {
                let (looks, wrong) = self.looks(sight, group, label);
                lines.push(format!(
                    "{words}, {how}: {looks} looks at requests in flight, {wrong} false idle"
                ));
            }
        }
        lines.join("\n")
    }

    /// Whether a server's port was looked at while its truth was known.
    pub(crate) fn has(&self, port: u16) -> bool {
        let cell = self.cells.get(&(port, Sight::Known));
        cell.is_some_and(|cell| cell.in_flight + cell.idle > 0)
    }

    /// The cells in which a promise was broken, and how.
    pub(crate) fn broken(&self, label: impl Fn(u16) -> Label) -> Vec<String> {
        let mut broken = Vec::new();
        for ((port, sight), cell) in &self.cells {
            let Label {
                name,
                beyond: None,
                first,
                most,
                ..
            } = label(*port)
            else {
                continue;
            };
            if *sight == Sight::First && !first {
                continue;
            }
            if cell.false_idle > 0 {
                broken.push(format!("{name}, {sight:?}: {} false idle", cell.false_idle));
            }
            if cell.held > most {
                broken.push(format!(
                    "{name}, {sight:?}: held for {:?} after its answer: {}",
                    cell.held,
                    cell.holder.as_deref().unwrap_or_default()
                ));
            }
        }
        broken
    }

    /// The table: a line for each cell and sight, then the evidence of what was wrong, then the rules of the covered cells.
    pub(crate) fn table(&self, label: impl Fn(u16) -> Label) -> Result<String, fmt::Error> {
        let mut text = String::new();
        writeln!(
            text,
            "{:<26} {:<5} {:>9} {:>7} {:>7} {:>9} {:>7} {:>7} {:>6} {:>7} {:>6}",
            "",
            "look",
            "in flight",
            "F-IDLE",
            "unsure",
            "idle",
            "f-busy",
            "unsure",
            "queued",
            "changed",
            "held"
        )?;
        let mut rules: BTreeMap<(Sight, &str), Rule> = BTreeMap::new();
        let mut beyond = BTreeMap::new();
        for ((port, sight), cell) in &self.cells {
            let label = label(*port);
            let mark = if label.beyond.is_some() { "*" } else { "" };
            writeln!(
                text,
                "{:<26} {:<5} {:>9} {:>7} {:>7} {:>9} {:>7} {:>7} {:>6} {:>7} {:>5.1}s",
                format!("{}{mark}", label.name),
                format!("{sight:?}"),
                cell.in_flight,
                cell.false_idle,
                cell.unsure_in_flight,
                cell.idle,
                cell.false_busy,
                cell.unsure_idle,
                cell.queued,
                cell.changed,
                cell.held.as_secs_f64()
            )?;
            if let Some(why) = label.beyond {
                beyond.insert(label.name, why);
                continue;
            }
            for wrong in &cell.wrong {
                writeln!(text, "    {wrong}")?;
            }
            for (rule, counts) in &cell.rules {
                rules.entry((*sight, rule)).or_default().add(counts);
            }
        }
        for (name, why) in beyond {
            writeln!(text, "* {name}: beyond the defaults: {why}")?;
        }
        writeln!(
            text,
            "\n{:<70} {:>9} {:>7} {:>9} {:>9} {:>6}",
            "rule (covered workloads)", "in flight", "F-IDLE", "idle", "held", "most"
        )?;
        for ((sight, name), rule) in rules {
            writeln!(
                text,
                "{:<70} {:>9} {:>7} {:>9} {:>9} {:>5.1}s",
                format!("{sight:?}: {name}"),
                rule.in_flight,
                rule.false_idle,
                rule.idle,
                rule.held,
                rule.longest.as_secs_f64()
            )?;
        }
        Ok(text)
    }
}

impl Rule {
    fn add(&mut self, other: &Self) {
        self.in_flight += other.in_flight;
        self.false_idle += other.false_idle;
        self.idle += other.idle;
        self.held += other.held;
        self.longest = self.longest.max(other.longest);
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ages {
            received,
            sent,
            ack,
        } = self.seen.ages.unwrap_or_default();
        write!(
            f,
            "{:?} ages received {received} sent {sent} ack {ack} · bytes received {} sent {} unread {} unsent {} · {:?}",
            self.seen.stage,
            self.seen.received,
            self.seen.sent,
            self.seen.unread,
            self.seen.unsent,
            self.history.pingpong
        )?;
        for (word, segments) in [("ever", self.seen.segments), ("since", self.history.since)] {
            if let Some(Segments {
                acks_sent,
                acks_received,
                payloads_received,
            }) = segments
            {
                write!(
                    f,
                    " · {word}: acks out {acks_sent} in {acks_received} payloads {payloads_received}"
                )?;
            }
        }
        write!(f, " · longest pause {}", self.history.longest_pause)
    }
}
