//! Bytes of the kernel: whole answers, and the attributes of a single row.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sockdiag::answer::{Dump, Lookups};
use sockdiag::{Row, UnixRow, wire};
use std::hint::black_box;

fn read(row: &Row<'_>) {
    black_box((row.id.local(), row.id.remote()));
    black_box(row.info.map(|info| info.fields().count()));
}

fuzz_target!(|bytes: &[u8]| {
    // The number of the request that the first message answers, or else everything would be skipped.
    let first = wire::messages(bytes).find_map(Result::ok);
    let sequence = first.map_or(0, |message| message.sequence);
    let mut rows = 0;
    let dump = Dump::new(sequence).take(bytes, &mut |row| {
        rows += 1;
        read(row);
    });
    // A row takes 88 bytes, so that many at most, whether the answer is sound or not.
    assert!(rows <= bytes.len() / 88, "{rows} rows: {dump:?}");
    let mut rows = 0;
    let dump = Dump::new(sequence).take_unix(bytes, &mut |row| {
        rows += 1;
        black_box(row);
    });
    // A row takes 32 bytes.
    assert!(rows <= bytes.len() / 32, "{rows} Unix rows: {dump:?}");
    let _ = Lookups::new(sequence, 7).take(bytes, &mut |at, row| {
        assert!(at < 7);
        row.iter().for_each(|row| read(row));
    });
    if let Ok(row) = Row::parse(bytes) {
        read(&row);
    }
    let _ = black_box(UnixRow::parse(bytes));
});
