use std::sync::{Mutex, PoisonError};

/// What the cases noted, in the order of their ends.
static NOTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a case's figures for the table at the end.
pub fn note(case: &str, figures: &str) {
    let line = format!("{case:<34} {figures}");
    NOTED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line);
}

/// All figures, sorted by case: the project's own and those of its baselines side by side.
pub fn table() -> String {
    let mut lines = NOTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    lines.sort();
    lines.join("\n")
}
