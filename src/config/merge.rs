//! Several files as one: their tables merged by key, each value still knowing the file and line that it came from.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Nature};
use super::files::{MAIN, Source};
use super::section::line_at;

/// Offsets into all sources as if they stood one after another, so that a value still knows its file after merging.
pub(super) struct Map<'a> {
    sources: &'a [Source],
    /// Where each begins.
    pub(super) bases: Vec<usize>,
    len: usize,
}

impl<'a> Map<'a> {
    pub(super) fn new(sources: &'a [Source]) -> Self {
        let mut len = 0;
        let mut bases = Vec::new();
        for source in sources {
            bases.push(len);
            // One more, so that the end of one file is not the beginning of the next.
            len += source.text.len() + 1;
        }
        Self {
            sources,
            bases,
            len,
        }
    }

    pub(super) fn whole(&self) -> Range<usize> {
        0..self.len
    }

    pub(super) fn source(&self, at: usize) -> usize {
        self.bases
            .partition_point(|base| *base <= at)
            .saturating_sub(1)
    }

    pub(super) fn fault(&self, at: usize, what: String, nature: Nature) -> Fault {
        let n = self.source(at);
        let (path, line) = match self.sources.get(n) {
            Some(source) => (
                source.path.clone(),
                line_at(&source.text, at - self.bases[n]),
            ),
            None => (MAIN.to_owned(), 1),
        };
        Fault {
            path,
            line,
            what,
            nature,
        }
    }
}

/// The table with all its spans moved by `base`.
pub(super) fn moved(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    let span = |span: Range<usize>| span.start + base..span.end + base;
    table
        .into_iter()
        .map(|(key, value)| {
            let key = Spanned::new(span(key.span()), key.into_inner());
            (key, moved_value(value, base))
        })
        .collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + base..value.span().end + base;
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved(table, base)),
        DeValue::Array(items) => DeValue::Array(
            items
                .into_iter()
                .map(|item| moved_value(item, base))
                .collect(),
        ),
        scalar => scalar,
    };
    Spanned::new(span, value)
}

/// One table of all, later ones winning.
pub(super) fn merged<'a>(tables: impl Iterator<Item = DeTable<'a>>) -> DeTable<'a> {
    let mut under = DeTable::new();
    for over in tables {
        merge(&mut under, over);
    }
    under
}

/// Tables merge by key, everything else is replaced.
fn merge<'a>(under: &mut DeTable<'a>, over: DeTable<'a>) {
    for (key, value) in over {
        // Taken out first: the map would keep the old key, and with it the wrong file.
        let old = under
            .remove(key.get_ref().as_ref())
            .map(Spanned::into_inner);
        let span = value.span();
        let value = match (old, value.into_inner()) {
            (Some(DeValue::Table(mut old)), DeValue::Table(new)) => {
                merge(&mut old, new);
                DeValue::Table(old)
            }
            (_, new) => new,
        };
        under.insert(key, Spanned::new(span, value));
    }
}
