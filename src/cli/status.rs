//! `status`: what would be waited for right now; what is, while a drain runs.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::watch;
use crate::config::{self, Settings};
use crate::drain::event::Looked;
use crate::drain::looker::Looker;
use crate::drain::machine::Depth;
use crate::drain::target::{Programs, unit_names};
use crate::evidence::Glance;
use crate::evidence::probe::Kept;
use crate::pools::{Membership, Said};
use crate::probes::Asked;
use crate::receipts::{self, Book, Run, Store};
use crate::systemd::{self, HOOK, REJOIN, UnitState};
use crate::world::{Deadline, Root};
use crate::{drain, exit, fleet, pools, report, text};

/// What a drain would wait for right now, and what stands ready for it; while one runs, what that one sees.
///
/// As JSON, `drain` is what a running drain sees, and then the only field.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: drainctl status --json | jq '.looked.busy' · drainctl status --watch"
)]
pub(super) struct Status {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// Who holds the slots of the fleet, since when and why.
    #[arg(long, conflicts_with = "watch")]
    fleet: bool,
    /// Show the drain that is running until it ends.
    #[arg(long)]
    watch: bool,
}

/// Two looks this far apart break the ties that one look can't.
const BETWEEN: Duration = Duration::from_millis(60);
/// PID 1 and each pool have this long.
const LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
struct Facts {
    units: Vec<UnitFacts>,
    listeners: Vec<(String, u16)>,
    sockets: Vec<(String, String)>,
    looked: Option<Looked>,
    blind: Option<String>,
    pools: Vec<Said>,
    hook: Vec<UnitFacts>,
    running: Option<Run>,
    receipts: Option<Book>,
    last: Option<drain::Report>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct UnitFacts {
    name: String,
    load_state: String,
    active_state: String,
    main_pid: u32,
}

impl Status {
    /// Runs it.
    ///
    /// # Errors
    /// Not root; every fault of the config.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("status")?;
        if self.watch {
            return watch::watch(root, self.json);
        }
        if self.fleet {
            return fleet(root, self.json);
        }
        // The drain's own view, also where the config is broken by now or PID 1 can't be asked any more.
        if let Some(now) = watch::now(root)? {
            if self.json {
                say!(
                    "{}",
                    serde_json::to_string_pretty(&json!({ "drain": now }))?
                );
            } else {
                report::now::lines(&now)
                    .iter()
                    .for_each(|line| say!("{line}"));
            }
            return Ok(exit::OK);
        }
        let settings = config::load(root)?.settings;
        let facts = Facts::gather(root, &settings)?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&facts)?);
        } else {
            facts.print();
        }
        Ok(exit::OK)
    }
}

/// The slots as their keeper sees them, and this host's own.
fn fleet(root: &Root, json: bool) -> anyhow::Result<u8> {
    let settings = config::load(root)?.settings.fleet;
    let settings =
        settings.context("no [fleet] is configured: any number of hosts may be out at once")?;
    let cx = pools::Context {
        deadline: Deadline::after(LIMIT),
        root: root.clone(),
    };
    let view = fleet::build(&settings.spec)?.view(&cx)?;
    let ours = Store::open(root)?.slot();
    if json {
        let seen = json!({ "fleet": view, "ours": ours });
        say!("{}", serde_json::to_string_pretty(&seen)?);
        return Ok(exit::OK);
    }
    let ours = ours.as_ref();
    match (&view.holders, view.slots) {
        (Some(holders), Some(slots)) => {
            say!(
                "fleet    {}: {} of {slots} slots held",
                view.group,
                holders.len()
            );
            for held in holders {
                let own = ours.is_some_and(|slot| slot.ticket == held.ticket);
                let own = if own { " (this host)" } else { "" };
                match &held.who {
                    Some(who) => say!(
                        "held     {}{own} since {} ({}), drain {}",
                        text::one_line(&who.host, 100),
                        who.since.strftime("%Y-%m-%d %H:%M:%S UTC"),
                        report::cause(who.cause),
                        text::one_line(&who.drain, 100)
                    ),
                    None => say!("held     by another program{own}: {}", held.ticket),
                }
            }
        }
        _ => say!(
            "fleet    {}: its server does not say who holds slots",
            view.group
        ),
    }
    if let Some(slot) = ours {
        let since = slot.since.strftime("%Y-%m-%d %H:%M:%S UTC");
        say!("this     host asked for its slot at {since}; `drainctl rejoin` gives it back");
    }
    Ok(exit::OK)
}

impl Facts {
    fn gather(root: &Root, settings: &Settings) -> anyhow::Result<Self> {
        let names = unit_names(root, &settings.units);
        let asked: Vec<String> = names
            .iter()
            .cloned()
            .chain([HOOK.to_owned(), REJOIN.to_owned()])
            .collect();
        let snapshot = systemd::snapshot(&asked, Deadline::after(LIMIT))?;
        let find = |name: &String| {
            snapshot
                .units
                .iter()
                .find(|unit| unit.name == *name)
                .cloned()
        };
        let units: Vec<UnitState> = names
            .iter()
            .filter_map(find)
            .filter(|unit| unit.load_state != "not-found")
            .collect();
        let programs = Programs::ask(root, &units);
        let mut facts = Self {
            units: units.iter().map(UnitFacts::of).collect(),
            listeners: Vec::new(),
            sockets: Vec::new(),
            looked: None,
            blind: None,
            pools: pools::ask(root, &settings.pools, LIMIT),
            hook: [HOOK, REJOIN]
                .iter()
                .filter_map(|name| snapshot.unit(name))
                .map(UnitFacts::of)
                .collect(),
            running: Run::read(root).filter(|run| run.ended.is_none()),
            receipts: None,
            last: receipts::last(root),
            notes: programs.notes.clone(),
        };
        match Store::open(root) {
            Ok(store) => facts.receipts = store.book(),
            Err(error) => facts.notes.push(format!("{error:#}")),
        }
        if let Err(error) = facts.look(root, settings, &units, &programs) {
            facts.blind = Some(format!("{error:#}"));
        }
        Ok(facts)
    }

    fn look(
        &mut self,
        root: &Root,
        settings: &Settings,
        units: &[UnitState],
        programs: &Programs,
    ) -> anyhow::Result<()> {
        let looker = Looker::new(root, units, settings, Kept::read(root));
        let mut watch = looker.watch(Instant::now())?;
        let found = watch.discover(&|pid| programs.name(root, pid))?;
        self.notes.extend(found.notes);
        self.listeners = watch
            .listeners()
            .iter()
            .map(|l| (l.program.clone(), l.local.port()))
            .collect();
        self.sockets = watch
            .locals()
            .iter()
            .map(|l| (l.program.clone(), l.name.clone()))
            .collect();
        watch.look(Depth::Whole)?;
        std::thread::sleep(BETWEEN);
        if let Glance::Whole(mut looked, ..) = watch.look(Depth::Whole)? {
            looked.add(Asked::new(root, &settings.probes).count());
            self.notes.extend(looked.unknown.iter().cloned());
            self.looked = Some(*looked);
        }
        Ok(())
    }

    fn print(&self) {
        if self.units.is_empty() {
            say!(
                "target   none: no unit of supervisord is known to systemd; name one in the config (units = [\"…\"])"
            );
        }
        for unit in &self.units {
            say!(
                "target   {} {}, main process {}",
                unit.name,
                unit.active_state,
                unit.main_pid
            );
        }
        for (program, port) in &self.listeners {
            say!("listens  {program} on port {port}");
        }
        for (program, path) in &self.sockets {
            say!("listens  {program} on {path}");
        }
        match (&self.looked, &self.blind) {
            (Some(looked), _) => {
                say!(
                    "now      {}, {} idle connections",
                    report::in_flight(looked),
                    looked.idle
                );
                for held in &looked.held {
                    say!("         {}", report::held(held));
                }
            }
            (None, Some(error)) => say!("now      unknown: {error}"),
            (None, None) => say!("now      unknown"),
        }
        for pool in &self.pools {
            match (&pool.membership, &pool.error) {
                (Some(membership), _) => say!(
                    "pool     {} ({}): {}",
                    pool.name,
                    pool.kind,
                    words(*membership)
                ),
                (None, error) => {
                    say!(
                        "pool     {} ({}): unknown: {}",
                        pool.name,
                        pool.kind,
                        error.as_deref().unwrap_or("not asked")
                    );
                }
            }
        }
        for unit in &self.hook {
            say!(
                "hook     {} {}, {}",
                unit.name,
                unit.load_state,
                unit.active_state
            );
        }
        let hook_ready = self
            .hook
            .iter()
            .any(|unit| unit.name == HOOK && unit.active_state == "active");
        if !hook_ready {
            say!(
                "         THE NEXT SHUTDOWN IS NOT DRAINED: `drainctl install` sets the hook up, `systemctl start {HOOK}` starts it"
            );
        }
        if let Some(run) = &self.running {
            say!(
                "drain    {} does not answer: killed, beginning or ending ({})",
                run.id,
                run.phase
            );
        }
        let book = self.receipts.as_ref();
        if let Some(slot) = book.and_then(|book| book.slot.as_ref()) {
            say!(
                "slot     of the fleet held since {}; `drainctl rejoin` gives it back",
                slot.since.strftime("%Y-%m-%d %H:%M:%S UTC")
            );
        }
        if let Some(book) = book.filter(|book| !book.receipts.is_empty()) {
            let pools: Vec<&str> = book
                .receipts
                .iter()
                .map(|receipt| receipt.pool.name.as_str())
                .collect();
            say!(
                "out of   {} (since drain {}); `drainctl rejoin` takes it back",
                pools.join(", "),
                book.drain
            );
        }
        match &self.last {
            Some(last) => {
                let lines = report::report(last);
                say!(
                    "last     {}: {}",
                    last.began.strftime("%Y-%m-%d %H:%M:%S UTC"),
                    lines.join("\n         ")
                );
            }
            None => say!("last     no drain yet"),
        }
        for note in &self.notes {
            say!("note     {note}");
        }
    }
}

impl UnitFacts {
    fn of(unit: &UnitState) -> Self {
        Self {
            name: unit.name.clone(),
            load_state: unit.load_state.clone(),
            active_state: unit.active_state.clone(),
            main_pid: unit.main_pid,
        }
    }
}

fn words(membership: Membership) -> &'static str {
    match membership {
        Membership::In => "in, it sends traffic",
        Membership::Leaving => "leaving",
        Membership::Out => "out",
        Membership::NotMember => "does not know this host",
    }
}
