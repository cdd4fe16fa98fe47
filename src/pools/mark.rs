//! The text that tells our marks in a pool from an operator's.

const BEGINNING: &str = "drainctl: draining this host (";

/// A text that no other receipt has, for people to read: it says what was done, and when.
pub(super) fn new() -> String {
    let now = jiff::Timestamp::now();
    format!("{BEGINNING}{now}, {})", std::process::id())
}

/// Whether this program wrote it, maybe under a receipt that was lost. Taking such a mark over is what gets the host back.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(BEGINNING)
}

/// The first line of what a pool said, for messages: no control characters, no more than 200 of any.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let line: String = line.chars().take(200).collect();
    line.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ_and_are_known_again() {
        let mark = new();
        assert_ne!(mark, new());
        assert!(is_ours(&mark));
        assert!(!is_ours("maintenance by hand"));
    }

    #[test]
    fn what_a_pool_says_cannot_drive_the_terminal() {
        assert_eq!(one_line("\n a\u{1b}[2Jb\nc"), "a?[2Jb");
        assert_eq!(one_line(&"ä".repeat(999)).chars().count(), 200);
    }
}
