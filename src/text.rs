//! Text that others wrote, made fit for a terminal, a log or a page. Pure.

/// `text` on one line, of at most `most` characters: what a server or a process calls itself must not move anybody's cursor, hide what
/// stands beside it (bidirectional controls), or fill a disk.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for (at, c) in text.trim_end().chars().enumerate() {
        if at + 1 >= most && text.trim_end().chars().nth(most).is_some() {
            line.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() || is_direction(c) => line.push('\u{fffd}'),
            c => line.push(c),
        }
    }
    line
}

/// Marks that change the direction in which text runs (UAX #9), and the separators that break lines.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// `text` in at most `most` characters: its beginning and its end, where it is longer.
#[must_use]
pub fn middle_cut(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let end = most / 3;
    let begin = most.saturating_sub(end + 1);
    text.chars()
        .take(begin)
        .chain(['…'])
        .chain(text.chars().skip(length - end))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_and_nothing_is_longer_than_it_may_be() {
        assert_eq!(one_line("app", 10), "app");
        assert_eq!(
            one_line("a\x1b[2Jb\nc\u{202e}d\u{9b}e\n", 20),
            "a\u{fffd}[2Jb c\u{fffd}d\u{fffd}e"
        );
        assert_eq!(one_line(&"x".repeat(20), 20), "x".repeat(20));
        assert_eq!(
            one_line(&"é".repeat(21), 20),
            format!("{}…", "é".repeat(19))
        );
        assert_eq!(one_line("", 3), "");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(middle_cut("short", 9), "short");
        assert_eq!(middle_cut("worker-of-the-shop-17", 12), "worker-…p-17");
        assert_eq!(middle_cut("worker-of-the-shop-17", 12).chars().count(), 12);
    }
}
