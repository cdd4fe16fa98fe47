//! What is wrong in the config, where, and what to do about it.

use std::fmt;

/// Whether a fault lies in what is written or in what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// The config can't be used: a key, a value, or a file that must not be trusted.
    Value,
    /// The config is sound, but something that it names is not there (a token file): it may be there by the next drain.
    Environment,
}

/// One fault. Ordered by file, then line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, as the host names it.
    pub path: String,
    /// The line in it, from 1.
    pub line: usize,
    /// The table, the key, what is wrong with it and the remedy. Never a secret.
    pub what: String,
    /// What it makes unusable.
    pub nature: Nature,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Every fault of every file, sorted by file and line, each told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the settings are usable all the same.
    #[must_use]
    pub fn only_environment(&self) -> bool {
        self.iter().all(|fault| fault.nature == Nature::Environment)
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        let mut faults: Vec<Fault> = faults.into_iter().collect();
        faults.sort();
        faults.dedup();
        Self(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
