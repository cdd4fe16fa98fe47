use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the cases noted, by case.
static NOTED: Mutex<BTreeMap<String, Case>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Case {
    figures: Vec<String>,
    took: Duration,
}

/// Keeps a case's figures for the table at the end.
pub fn note(case: &str, figures: &str) {
    noted()
        .entry(case.to_owned())
        .or_default()
        .figures
        .push(figures.to_owned());
}

/// Keeps how long a case took, its hosts' boots included.
pub fn took(case: &str, took: Duration) {
    noted().entry(case.to_owned()).or_default().took = took;
}

/// All figures, sorted by case: the project's own and those of its baselines side by side.
pub fn table() -> String {
    let line = |(name, Case { figures, took }): (&String, &Case)| {
        format!("{name:<34} [{} s] {}", took.as_secs(), figures.join(" · "))
    };
    noted().iter().map(line).collect::<Vec<_>>().join("\n")
}

fn noted() -> MutexGuard<'static, BTreeMap<String, Case>> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}
