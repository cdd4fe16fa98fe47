//! Lines that are redrawn in place on a terminal. Pure: what is to be written, for a terminal of that size.

/// What was drawn last.
#[derive(Debug, Default)]
pub struct Screen {
    drawn: Vec<String>,
    size: (usize, usize),
}

impl Screen {
    /// What draws `lines` over what was drawn last, on so many columns and rows: only the lines that have changed, since the way to the
    /// terminal may be slow. No line is broken, and nothing scrolls.
    pub fn frame(&mut self, lines: &[String], size: (usize, usize)) -> String {
        let lines = fit(lines, size);
        let mut text = String::new();
        if self.size != size && !self.drawn.is_empty() {
            // The terminal may have broken lines anew, so nobody knows where they are (ECMA-48: CUP, ED).
            text.push_str("\x1b[H\x1b[2J");
            self.drawn.clear();
        }
        if !self.drawn.is_empty() {
            // Up to the first of them (CPL).
            text.push_str(&format!("\x1b[{}F", self.drawn.len()));
        }
        for (at, line) in lines.iter().enumerate() {
            if self.drawn.get(at) != Some(line) {
                // What is left of the line before goes after it: nothing is blank meanwhile (EL).
                text.push_str(line);
                text.push_str("\x1b[K");
            }
            text.push('\n');
        }
        if lines.len() < self.drawn.len() {
            text.push_str("\x1b[J");
        }
        self.drawn = lines;
        self.size = size;
        text
    }

    /// What takes it away again.
    pub fn clear(&mut self) -> String {
        match std::mem::take(&mut self.drawn).len() {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}F\x1b[J"),
        }
    }
}

/// As much as fits. The last column stays free: some terminals go on to the next line from there.
fn fit(lines: &[String], (columns, rows): (usize, usize)) -> Vec<String> {
    let most = columns.saturating_sub(1);
    let cut = |line: &String| {
        if line.chars().map(width).sum::<usize>() <= most {
            return line.clone();
        }
        let mut short = String::new();
        let mut used = 1;
        for c in line.chars() {
            used += width(c);
            if used > most {
                break;
            }
            short.push(c);
        }
        short.push('…');
        short
    };
    lines.iter().take(rows.saturating_sub(1)).map(cut).collect()
}

/// How many columns a character takes: two where East Asian scripts and pictures do (UAX #11), one for everything else.
fn width(c: char) -> usize {
    let wide = matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}');
    if wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A terminal that knows what is used here.
    struct Terminal {
        columns: usize,
        rows: Vec<Vec<char>>,
        row: usize,
        column: usize,
        scrolled: usize,
    }

    impl Terminal {
        fn new((columns, rows): (usize, usize)) -> Self {
            Self {
                columns,
                rows: vec![Vec::new(); rows],
                row: 0,
                column: 0,
                scrolled: 0,
            }
        }

        fn down(&mut self) {
            if self.row + 1 == self.rows.len() {
                self.rows.remove(0);
                self.rows.push(Vec::new());
                self.scrolled += 1;
            } else {
                self.row += 1;
            }
        }

        fn write(&mut self, text: &str) {
            let mut rest = text.chars().peekable();
            while let Some(c) = rest.next() {
                match c {
                    '\x1b' => {
                        assert_eq!(rest.next(), Some('['));
                        let mut number = String::new();
                        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                            number.push(digit);
                        }
                        self.control(rest.next().unwrap(), number.parse().ok());
                    }
                    '\n' => {
                        self.down();
                        self.column = 0;
                    }
                    c => self.put(c),
                }
            }
        }

        fn control(&mut self, letter: char, number: Option<usize>) {
            match (letter, number) {
                ('F', Some(up)) => {
                    self.row -= up;
                    self.column = 0;
                }
                ('K', None) => self.rows[self.row].truncate(self.column),
                ('J', None) => {
                    self.rows[self.row].truncate(self.column);
                    self.rows[self.row + 1..].iter_mut().for_each(Vec::clear);
                }
                ('J', Some(2)) => self.rows.iter_mut().for_each(Vec::clear),
                ('H', None) => (self.row, self.column) = (0, 0),
                other => panic!("{other:?}"),
            }
        }

        fn put(&mut self, c: char) {
            if self.column + width(c) > self.columns {
                self.down();
                self.column = 0;
            }
            let row = &mut self.rows[self.row];
            row.resize(row.len().max(self.column + width(c)), ' ');
            row[self.column] = c;
            if width(c) == 2 {
                row[self.column + 1] = '\0';
            }
            self.column += width(c);
        }

        fn shown(&self) -> Vec<String> {
            let text = |row: &Vec<char>| row.iter().filter(|c| **c != '\0').collect::<String>();
            let rows: Vec<String> = self.rows.iter().map(text).collect();
            let last = rows.iter().rposition(|row| !row.is_empty());
            rows[..last.map_or(0, |last| last + 1)].to_vec()
        }
    }

    #[test]
    fn what_has_not_changed_is_not_sent_again() {
        let lines = |left: u32| vec![format!("waiting, {left} s left"), "holds  app".repeat(4)];
        let mut screen = Screen::default();
        let first = screen.frame(&lines(9), (80, 24));
        assert!(first.len() > 60);
        assert_eq!(
            screen.frame(&lines(8), (80, 24)),
            "\x1b[2Fwaiting, 8 s left\x1b[K\n\n"
        );
        assert_eq!(screen.frame(&lines(8), (80, 24)), "\x1b[2F\n\n");
    }

    #[test]
    fn a_name_in_a_wide_script_is_cut_where_its_columns_end() {
        let lines = ["漢字".repeat(40), "é".repeat(200), "x".repeat(79)];
        let drawn = fit(&lines, (80, 24));
        assert_eq!(drawn[0].chars().map(width).sum::<usize>(), 79);
        assert_eq!(drawn[1].chars().count(), 79);
        assert!(drawn[1].ends_with('…'));
        assert_eq!(drawn[2], lines[2]);
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_what_is_seen(
            frames in proptest::collection::vec(
                proptest::collection::vec("[a-z漢]{1,100}", 0..30),
                1..8,
            ),
            columns in 3usize..90,
            rows in 2usize..30,
        ) {
            let mut terminal = Terminal::new((columns, rows));
            let mut screen = Screen::default();
            for lines in &frames {
                terminal.write(&screen.frame(lines, (columns, rows)));
                prop_assert_eq!(terminal.shown(), fit(lines, (columns, rows)));
                prop_assert_eq!(terminal.scrolled, 0);
            }
            terminal.write(&screen.clear());
            prop_assert!(terminal.shown().is_empty());
        }

        #[test]
        fn a_terminal_that_was_made_smaller_is_drawn_anew(
            lines in proptest::collection::vec("[a-z]{1,100}", 1..30),
            left in "[a-z \n]{0,300}",
        ) {
            let mut screen = Screen::default();
            screen.frame(&lines, (80, 24));
            // Whatever the terminal made of it.
            let mut terminal = Terminal::new((40, 12));
            terminal.write(&left);
            terminal.write(&screen.frame(&lines, (40, 12)));
            prop_assert_eq!(terminal.shown(), fit(&lines, (40, 12)));
        }
    }
}
