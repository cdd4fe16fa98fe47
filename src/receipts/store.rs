//! The receipts: what stood in each pool before this program changed it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RECEIPTS;
use crate::config::PoolSpec;
use crate::fleet::FleetSpec;
use crate::world::Root;

/// The format written; an older one stays readable.
const VERSION: u32 = 1;
/// A receipts file is a few KiB; this bounds what a damaged one can cost.
const MOST_BYTES: u64 = 4 << 20;

/// What stood in one pool before this program changed it. On disk before the change is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The pool as it was configured then, so that rejoin reaches the same place.
    pub pool: PoolSpec,
    /// When it was written.
    pub written: Timestamp,
    /// What the pool's `prepare` answered.
    pub before: Value,
}

/// What of the target was up when it was drained: rejoin waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetMark {
    /// The target units.
    pub units: Vec<String>,
    /// supervisord's programs that were running, as `group:name`.
    pub programs: Vec<String>,
    /// The TCP ports that they listened on.
    pub ports: Vec<u16>,
    /// The Unix sockets that they listened on.
    #[serde(default)]
    pub sockets: Vec<String>,
}

/// All receipts not used yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The format's version.
    pub version: u32,
    /// The drain that wrote them.
    pub drain: String,
    /// What was up.
    #[serde(default)]
    pub target: TargetMark,
    /// One a pool.
    pub receipts: Vec<Receipt>,
    /// The slot of the fleet that this host holds, or was about to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
}

/// A slot of the fleet. On disk before it is taken, so that it is given back even if the host dies in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Where it is.
    pub fleet: FleetSpec,
    /// What it is held by.
    pub ticket: Value,
    /// When that was made.
    pub since: Timestamp,
}

/// The receipts file. One writer at a time: the holder of the lock.
#[derive(Debug)]
pub struct Store {
    root: Root,
    book: Mutex<Option<Book>>,
    /// What is there is not known yet.
    unread: AtomicBool,
}

impl Store {
    /// Reads what is there.
    ///
    /// # Errors
    /// The file can't be read or understood. It is left as it is: it may hold the only record of what stood before.
    pub fn open(root: &Root) -> anyhow::Result<Self> {
        Ok(Self {
            root: root.clone(),
            book: Mutex::new(read(root)?),
            unread: AtomicBool::new(false),
        })
    }

    /// Reads nothing yet, of a disk that does not answer: what is there is read before anything is changed, and so never overwritten.
    #[must_use]
    pub fn unread(root: &Root) -> Self {
        Self {
            root: root.clone(),
            book: Mutex::new(None),
            unread: AtomicBool::new(true),
        }
    }

    /// As [`Store::open`]; a file that can't be understood is moved aside, since it must neither be lost nor stop a drain. What
    /// there is to say about it.
    #[must_use]
    pub fn open_or_set_aside(root: &Root) -> (Self, Option<String>) {
        let error = match Self::open(root) {
            Ok(store) => return (store, None),
            Err(error) => error,
        };
        let aside = format!("{RECEIPTS}.damaged-{}", Timestamp::now().as_second());
        let moved = std::fs::rename(root.path(RECEIPTS), root.path(&aside));
        let text = match moved {
            Ok(()) => format!("{error:#}; kept as {aside}"),
            Err(refused) => format!("{error:#}; it can't be moved aside either: {refused}"),
        };
        (
            Self {
                root: root.clone(),
                book: Mutex::new(None),
                unread: AtomicBool::new(false),
            },
            Some(text),
        )
    }

    /// What is written now.
    #[must_use]
    pub fn book(&self) -> Option<Book> {
        self.lock().clone()
    }

    /// The receipt of `pool`, if one waits to be used. One of the same name whose settings were others then is another place's.
    #[must_use]
    pub fn receipt(&self, pool: &PoolSpec) -> Option<Receipt> {
        let book = self.lock();
        book.as_ref()?
            .receipts
            .iter()
            .find(|receipt| same_place(&receipt.pool, pool))
            .cloned()
    }

    /// Puts `receipt` on disk. One that waits to be used already is kept: it says what stood before the first change.
    ///
    /// # Errors
    /// It could not be written; nothing may be changed in the pool then.
    pub fn add(&self, drain: &str, receipt: Receipt) -> anyhow::Result<()> {
        self.change(drain, |book| {
            if !book
                .receipts
                .iter()
                .any(|kept| same_place(&kept.pool, &receipt.pool))
            {
                book.receipts.push(receipt);
            }
        })
    }

    /// Notes what of the target was up, unless a drain before this one did.
    ///
    /// # Errors
    /// It could not be written.
    pub fn mark(&self, drain: &str, target: TargetMark) -> anyhow::Result<()> {
        self.change(drain, |book| {
            if book.target == TargetMark::default() {
                book.target = target;
            }
        })
    }

    /// Removes the receipt of `pool`, which was used; the last one takes the file with it.
    ///
    /// # Errors
    /// The disk refused. Using a receipt twice is harmless.
    pub fn used(&self, pool: &PoolSpec) -> anyhow::Result<()> {
        self.keep_only(|receipt| !same_place(&receipt.pool, pool))
    }

    /// The slot that is held.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        self.lock().as_ref()?.slot.clone()
    }

    /// Puts what a slot is held by on disk.
    ///
    /// # Errors
    /// It could not be written; no slot may be taken then.
    pub fn hold(&self, drain: &str, slot: Slot) -> anyhow::Result<()> {
        self.change(drain, |book| book.slot = Some(slot))
    }

    /// Forgets the slot, which was given back or lost; the last receipt takes the file with it.
    ///
    /// # Errors
    /// The disk refused. Giving it back twice is harmless.
    pub fn give_back(&self) -> anyhow::Result<()> {
        let drain = match self.book() {
            Some(book) if book.slot.is_some() => book.drain,
            _ => return Ok(()),
        };
        self.change(&drain, |book| book.slot = None)?;
        self.drop_empty()
    }

    fn keep_only(&self, keep: impl Fn(&Receipt) -> bool) -> anyhow::Result<()> {
        let mut guard = self.lock();
        self.read_first(&mut guard)?;
        let Some(mut book) = guard.clone() else {
            return Ok(());
        };
        book.receipts.retain(keep);
        if book.receipts.is_empty() && book.slot.is_none() {
            self.root
                .remove(RECEIPTS)
                .with_context(|| format!("remove {RECEIPTS}"))?;
            *guard = None;
        } else {
            self.write(&book)?;
            *guard = Some(book);
        }
        Ok(())
    }

    /// Removes a book that holds no receipt.
    ///
    /// # Errors
    /// The disk refused.
    pub fn drop_empty(&self) -> anyhow::Result<()> {
        if self
            .lock()
            .as_ref()
            .is_some_and(|book| book.receipts.is_empty() && book.slot.is_none())
        {
            self.keep_only(|_| true)?;
        }
        Ok(())
    }

    fn change(&self, drain: &str, edit: impl FnOnce(&mut Book)) -> anyhow::Result<()> {
        let mut guard = self.lock();
        self.read_first(&mut guard)?;
        let before = guard.clone();
        let mut book = before.clone().unwrap_or_else(|| Book {
            version: VERSION,
            drain: drain.to_owned(),
            target: TargetMark::default(),
            receipts: Vec::new(),
            slot: None,
        });
        edit(&mut book);
        if before.as_ref() != Some(&book) {
            self.write(&book)?;
            *guard = Some(book);
        }
        Ok(())
    }

    fn read_first(&self, book: &mut Option<Book>) -> anyhow::Result<()> {
        if self.unread.load(Ordering::Relaxed) {
            *book = read(&self.root)?;
            self.unread.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, book: &Book) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(book)?;
        self.root
            .replace(RECEIPTS, &text, 0o600)
            .with_context(|| format!("write {RECEIPTS}"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Book>> {
        // A panic elsewhere must not cost the receipts; the value is replaced as a whole, so it is never half-changed.
        self.book
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether two specs reach the same place: its limit may have changed.
fn same_place(one: &PoolSpec, other: &PoolSpec) -> bool {
    (&one.name, &one.kind, &one.settings) == (&other.name, &other.kind, &other.settings)
}

fn read(root: &Root) -> anyhow::Result<Option<Book>> {
    let text = match root.read(RECEIPTS, MOST_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {RECEIPTS}")),
    };
    let book: Book = serde_json::from_str(&text).with_context(|| {
        format!("understand {RECEIPTS}; it is the record of what stood in the pools before: read it, undo by hand, move it away")
    })?;
    anyhow::ensure!(
        book.version <= VERSION,
        "{RECEIPTS} has format {}, this program knows up to {VERSION}",
        book.version
    );
    Ok(Some(book))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn receipt(name: &str, before: Value) -> Receipt {
        Receipt {
            pool: PoolSpec {
                name: name.into(),
                kind: "consul".into(),
                limit: Duration::from_secs(1),
                settings: json!({}),
            },
            written: Timestamp::UNIX_EPOCH,
            before,
        }
    }

    #[test]
    fn a_receipt_not_used_is_never_overwritten_also_by_another_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        Store::open(&root)
            .unwrap()
            .add("one", receipt("consul", json!("in")))
            .unwrap();
        let again = Store::open(&root).unwrap();
        again
            .add("two", receipt("consul", json!("already out")))
            .unwrap();
        again.add("two", receipt("edge", json!("ready"))).unwrap();
        let book = Store::open(&root).unwrap().book().unwrap();
        assert_eq!(book.drain, "one");
        assert_eq!(book.receipts.len(), 2);
        assert_eq!(book.receipts[0].before, json!("in"));
    }

    #[test]
    fn what_could_not_be_read_at_first_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let store = Store::open(&root).unwrap();
        store.add("one", receipt("consul", json!("in"))).unwrap();
        let late = Store::unread(&root);
        assert_eq!(late.book(), None);
        late.add("two", receipt("consul", json!("already out")))
            .unwrap();
        late.add("two", receipt("edge", json!("ready"))).unwrap();
        let book = Store::open(&root).unwrap().book().unwrap();
        assert_eq!((&*book.drain, book.receipts.len()), ("one", 2));
        assert_eq!(book.receipts[0].before, json!("in"));
        assert_eq!(late.book(), Some(book));
    }

    #[test]
    fn the_last_receipt_takes_the_file_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let store = Store::open(&root).unwrap();
        store.add("one", receipt("a", json!(1))).unwrap();
        store.add("one", receipt("b", json!(1))).unwrap();
        store.used(&receipt("a", json!(1)).pool).unwrap();
        assert!(root.exists(RECEIPTS));
        store.used(&receipt("b", json!(1)).pool).unwrap();
        assert!(!root.exists(RECEIPTS));
        assert!(store.book().is_none());
    }

    #[test]
    fn a_pool_whose_settings_have_changed_is_another_place_with_a_receipt_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Root::at(dir.path())).unwrap();
        let old = receipt("edge", json!("old"));
        let mut new = receipt("edge", json!("new"));
        new.pool.settings = json!({ "path": "/elsewhere" });
        store.add("one", old.clone()).unwrap();
        assert_eq!(store.receipt(&new.pool), None);
        store.add("two", new.clone()).unwrap();
        let mut patient = new.pool.clone();
        patient.limit = Duration::from_secs(99);
        assert_eq!(store.receipt(&patient), Some(new.clone()));
        store.used(&old.pool).unwrap();
        assert_eq!(store.book().unwrap().receipts, [new]);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.replace(RECEIPTS, b"{\"version\":1", 0o600).unwrap();
        let error = format!("{:#}", Store::open(&root).unwrap_err());
        assert!(error.contains(RECEIPTS), "{error}");
        assert!(root.exists(RECEIPTS));
    }
}
