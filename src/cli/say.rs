//! How verbs speak: lines on standard output and standard error. A reader that is gone (`drainctl report | head`) is no fault, and ends
//! nothing; an output that is full is said at the end.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit;

/// Something could not be written, other than to a reader that was gone.
static LOST: AtomicBool = AtomicBool::new(false);

/// A line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::say::line(format_args!($($text)*)) };
}

/// A line on standard error.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::say::error_line(format_args!($($text)*)) };
}

/// Standard output.
pub(super) struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stdout().lock();
        // All of it: what is left to write when the reader goes is nobody's.
        match out.write_all(bytes) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                LOST.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn line(text: Arguments<'_>) {
    let _ = Out.write(format!("{text}\n").as_bytes());
}

pub(super) fn error_line(text: Arguments<'_>) {
    // Where standard error is gone, nobody can be told.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// The exit code of a verb that ended with `code`: a failure where it could not say everything.
pub(super) fn end(code: u8) -> u8 {
    let full = io::stdout().flush();
    let full = full.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe);
    if code != exit::OK || !(full || LOST.load(Ordering::Relaxed)) {
        return code;
    }
    tell!("drainctl: not everything could be written to standard output: is the disk full?");
    exit::FAILED
}
