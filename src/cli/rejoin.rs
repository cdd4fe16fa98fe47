//! `rejoin`: the hook's second half.

use std::time::Duration;

use clap::Args;

use crate::config;
use crate::drain::{Outcome, Target, rejoin, slot};
use crate::exit;
use crate::pools::Rejoined;
use crate::receipts::{Lock, Locked, Receipt, Run, Store};
use crate::world::{Deadline, Root};

/// Take the host back into the pools that a drain took it out of, once the programs are up and well.
///
/// Undoes what the receipts say and nothing else: an operator's own maintenance stays.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl rejoin")]
pub(super) struct Rejoin {
    /// Don't wait for the programs.
    #[arg(long)]
    now: bool,
}

/// A drain that is running holds the lock; it is not waited for long.
const LOCK: Duration = Duration::from_secs(5);
/// What the pools may take together.
const UNDO: Duration = Duration::from_secs(60);

impl Rejoin {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, the programs are not well, or a drain is running.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("rejoin")?;
        let Some(book) = Store::open(root)?.book() else {
            say!("nothing to rejoin: no drain has taken this host out of a pool");
            return Ok(exit::OK);
        };
        let last = Run::read(root).map(|run| run.id);
        if self.now {
            let lock = lock(root)?;
            return if drained_since(root, last.as_ref()) {
                Ok(overtaken())
            } else {
                undo_locked(root, lock)
            };
        }
        // The programs may take their time; the slot must not end meanwhile.
        if let Err(error) = slot::renew(root, &Store::open(root)?, Deadline::after(LOCK)) {
            say!("fleet: the slot may be lost: {error:#}");
        }
        // What is undone comes from the receipts; of the config only the check counts, and a fault in it does not.
        let settings = config::load_or_last_good(root).0;
        let limit = Deadline::after(settings.rejoin.limit);
        let target = Target::Units(settings.units.clone());
        rejoin::await_health(root, &target, &settings, &book, limit, |missing| {
            say!("waiting: {missing}")
        })?;
        one_by_one(root, root, limit, last.as_ref(), |line| say!("{line}"))
    }
}

/// Uses each receipt in `state` as soon as its pool's own checks pass, until all are used or the limit is reached. One whose pool is gone holds up no other.
pub(super) fn one_by_one(
    root: &Root,
    state: &Root,
    limit: Deadline,
    last: Option<&String>,
    say: impl Fn(&str),
) -> anyhow::Result<u8> {
    let mut said = Vec::new();
    loop {
        let book = Store::open(state)?.book();
        let receipts = book.map(|book| book.receipts).unwrap_or_default();
        let none = receipts.is_empty();
        let (ready, waiting) = rejoin::ready(root, receipts, limit.within(rejoin::CALL));
        if waiting != said {
            for (pool, why) in &waiting {
                say(&format!("waiting: {pool}: {why}"));
            }
            said = waiting;
        }
        let mut code = exit::OK;
        // Also without any: what else the file says is used up with that.
        if none || !ready.is_empty() {
            let _lock = lock(state)?;
            if drained_since(state, last) {
                return Ok(overtaken());
            }
            let store = Store::open(state)?;
            code = tell(root, &store, ready, &say);
        }
        if code == exit::OK && said.is_empty() {
            code = give_back(root, &Store::open(state)?, &say);
            // A drain that was killed is over with that: the next one is another, with a deadline of its own.
            Run::forget(state)?;
            return Ok(code);
        }
        if limit.passed() {
            for (pool, why) in &said {
                tell!("{pool}: not rejoined, the receipt stays: {why}");
            }
            return Ok(exit::FAILED);
        }
        std::thread::sleep(rejoin::PACE);
    }
}

fn overtaken() -> u8 {
    say!("a drain has taken this host out meanwhile: its receipts wait for the next rejoin");
    exit::OK
}

/// Whether a drain other than `last` has run, and holds this host out: by hand, while we waited for the programs.
fn drained_since(root: &Root, last: Option<&String>) -> bool {
    Run::read(root).is_some_and(|run| {
        let nothing = matches!(
            run.ended,
            Some((
                Outcome::NothingToDo | Outcome::Aborted | Outcome::Refused,
                _
            ))
        );
        Some(&run.id) != last && !nothing
    })
}

/// Uses every receipt, and says what came of each.
pub(super) fn undo(root: &Root) -> anyhow::Result<u8> {
    undo_locked(root, lock(root)?)
}

fn undo_locked(root: &Root, _lock: Lock) -> anyhow::Result<u8> {
    put_back(root, root, |line| say!("{line}"))
}

/// The same for those who hold the lock of `state`, where the receipts are; `say` hears what worked.
pub(super) fn put_back(root: &Root, state: &Root, say: impl Fn(&str)) -> anyhow::Result<u8> {
    let store = Store::open(state)?;
    let receipts = store.book().map(|book| book.receipts).unwrap_or_default();
    let mut code = tell(root, &store, receipts, &say);
    if code == exit::OK {
        code = give_back(root, &store, say);
    }
    if code == exit::OK {
        // A drain that was killed is over with that: the next one is another, with a deadline of its own.
        Run::forget(state)?;
    }
    Ok(code)
}

/// Gives the slot of the fleet back, where one is held; a code. The others may go only once this host serves again.
fn give_back(root: &Root, store: &Store, say: impl Fn(&str)) -> u8 {
    match slot::give_back(root, store, Deadline::after(UNDO)) {
        Ok(true) => say("fleet: the slot is given back"),
        Ok(false) => {}
        Err(error) => {
            tell!("fleet: the slot is still held: {error:#}");
            return exit::FAILED;
        }
    }
    exit::OK
}

/// Uses these receipts, and says what came of each; a code.
fn tell(root: &Root, store: &Store, receipts: Vec<Receipt>, say: impl Fn(&str)) -> u8 {
    let mut code = exit::OK;
    let deadline = Deadline::after(UNDO);
    rejoin::undo(
        root,
        store,
        receipts,
        deadline,
        |pool, result| match result {
            Ok(Rejoined::Restored) => say(&format!("{pool}: back in")),
            Ok(Rejoined::LeftAlone(why)) => say(&format!("{pool}: left alone: {why}")),
            Err(error) => {
                tell!("{pool}: not rejoined, the receipt stays: {error:#}");
                code = exit::FAILED;
            }
        },
    );
    code
}

pub(super) fn lock(root: &Root) -> anyhow::Result<Lock> {
    let deadline = Deadline::after(LOCK);
    loop {
        match Lock::attempt(root)? {
            Locked::Ours(lock) => return Ok(lock),
            Locked::Taken if deadline.passed() => anyhow::bail!("a drain is running"),
            Locked::Taken => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PoolSpec;
    use serde_json::json;

    #[test]
    fn a_drain_that_began_while_a_rejoin_waits_keeps_the_host_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert!(!drained_since(&root, None));
        let (mut run, _) = Run::begin_or_resume(&root);
        let earlier = run.id.clone();
        run.write(&root).unwrap();
        assert!(!drained_since(&root, Some(&earlier)));
        run.id.push_str("-later");
        run.ended = Some((Outcome::Drained, exit::OK));
        run.write(&root).unwrap();
        assert!(drained_since(&root, Some(&earlier)));
        assert!(drained_since(&root, None));
        run.ended = Some((Outcome::NothingToDo, exit::OK));
        run.write(&root).unwrap();
        assert!(!drained_since(&root, Some(&earlier)));
    }

    #[test]
    fn a_drain_that_was_killed_is_over_once_its_receipts_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let (mut run, _) = Run::begin_or_resume(&root);
        run.limit = Duration::from_secs(3600);
        run.write(&root).unwrap();
        assert!(Run::begin_or_resume(&root).1);
        undo(&root).unwrap();
        assert!(!Run::begin_or_resume(&root).1);
    }

    /// Three pools that were left: one that is back as soon as it is asked, one whose registry is gone, and one that hangs.
    fn left(root: &Root) -> Store {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hanging = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || listener.incoming().map(std::mem::forget).for_each(drop));
        let mark = "drainctl: draining this host (2026-11-01T10:00:00Z, 1234)";
        root.replace("/srv/draining", format!("{mark}\n").as_bytes(), 0o644)
            .unwrap();
        let store = Store::open(root).unwrap();
        let consul = json!({ "address": "http://127.0.0.1:1" });
        let file = json!({ "path": "/srv/draining", "leave": "create" });
        for (kind, settings, before) in [
            ("consul", consul, json!({ "mark": mark })),
            (
                "envoy",
                json!({ "address": hanging }),
                json!({ "failing": false }),
            ),
            (
                "health-file",
                file,
                json!({ "create": { "mark": mark, "stood": null } }),
            ),
        ] {
            let pool = PoolSpec {
                name: kind.to_owned(),
                kind: kind.to_owned(),
                limit: Duration::from_millis(600),
                settings,
            };
            let written = jiff::Timestamp::now();
            let receipt = Receipt {
                pool,
                written,
                before,
            };
            store.add("one", receipt).unwrap();
        }
        store
    }

    fn names(root: &Root) -> Vec<String> {
        let book = Store::open(root).unwrap().book().unwrap();
        book.receipts.into_iter().map(|one| one.pool.name).collect()
    }

    #[test]
    fn a_registry_that_is_gone_keeps_this_host_out_of_no_other_pool() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        left(&root);
        let limit = Deadline::after(Duration::from_millis(300));
        let code = one_by_one(&root, &root, limit, None, |_| ()).unwrap();
        assert_eq!(code, exit::FAILED);
        assert_eq!(names(&root), ["consul", "envoy"]);
        assert!(!root.exists("/srv/draining"));
    }

    #[test]
    fn pools_are_rejoined_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let store = left(&root);
        let receipts = store.book().unwrap().receipts;
        let mut order = Vec::new();
        let deadline = Deadline::after(Duration::from_secs(60));
        rejoin::undo(&root, &store, receipts, deadline, |pool, result| {
            order.push((pool.to_owned(), result.is_ok()));
        });
        assert_eq!(order[0], ("health-file".to_owned(), true));
        order.sort();
        assert_eq!(order[1..2], [("envoy".to_owned(), false)]);
        assert_eq!(names(&root), ["consul", "envoy"]);
    }
}
