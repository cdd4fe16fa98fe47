//! `rejoin`: the hook's second half.

use std::time::Duration;

use clap::Args;

use crate::config;
use crate::drain::rejoin;
use crate::exit;
use crate::pools::Rejoined;
use crate::receipts::{Lock, Locked, Store};
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
            println!("nothing to rejoin: no drain has taken this host out of a pool");
            return Ok(exit::OK);
        };
        if !self.now {
            // What is undone comes from the receipts; of the config only the check counts, and a fault in it does not.
            let settings = config::load_or_last_good(root).0;
            rejoin::await_health(root, &settings, &book, |missing| {
                println!("waiting: {missing}")
            })?;
        }
        undo(root)
    }
}

/// Uses every receipt, and says what came of each.
pub(super) fn undo(root: &Root) -> anyhow::Result<u8> {
    let _lock = lock(root)?;
    let store = Store::open(root)?;
    let mut code = exit::OK;
    for (pool, result) in rejoin::undo(root, &store, Deadline::after(UNDO)) {
        match result {
            Ok(Rejoined::Restored) => println!("{pool}: back in"),
            Ok(Rejoined::LeftAlone(why)) => println!("{pool}: left alone: {why}"),
            Err(error) => {
                eprintln!("{pool}: not rejoined, the receipt stays: {error:#}");
                code = exit::FAILED;
            }
        }
    }
    Ok(code)
}

fn lock(root: &Root) -> anyhow::Result<Lock> {
    let deadline = Deadline::after(LOCK);
    loop {
        match Lock::attempt(root)? {
            Locked::Ours(lock) => return Ok(lock),
            Locked::Taken if deadline.passed() => anyhow::bail!("a drain is running"),
            Locked::Taken => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
