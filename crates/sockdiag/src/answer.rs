//! From datagrams to rows: when an answer is complete, and when it is none. Pure, for those who bring their own socket.

use crate::wire::{self, Message, messages};
use crate::{Error, Row, UnixRow};
use rustix::io::Errno;

/// The answer to a dump of one family, as far as it has come.
#[derive(Debug)]
pub struct Dump {
    sequence: u32,
    interrupted: bool,
    done: bool,
    rows: u64,
}

impl Dump {
    /// Awaits the answer to the request with this number.
    #[must_use]
    pub const fn new(sequence: u32) -> Self {
        Self {
            sequence,
            interrupted: false,
            done: false,
            rows: 0,
        }
    }

    /// How many rows have been delivered.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether every row has been delivered.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next datagram of the kernel. An error is final, and all rows seen so far are void.
    pub fn take(&mut self, datagram: &[u8], each: &mut impl FnMut(&Row<'_>)) -> Result<(), Error> {
        self.take_rows(datagram, &mut |payload| {
            each(&Row::parse(payload)?);
            Ok(())
        })
    }

    /// As [`Dump::take`], for Unix sockets.
    pub fn take_unix(
        &mut self,
        datagram: &[u8],
        each: &mut impl FnMut(&UnixRow<'_>),
    ) -> Result<(), Error> {
        self.take_rows(datagram, &mut |payload| {
            each(&UnixRow::parse(payload)?);
            Ok(())
        })
    }

    fn take_rows(
        &mut self,
        datagram: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for message in messages(datagram) {
            let message = message?;
            if message.sequence != self.sequence {
                continue;
            }
            self.interrupted |= message.flags & wire::DUMP_INTR != 0;
            match message.kind {
                // Once interrupted, the rest is read only to reach the end.
                wire::SOCK_DIAG_BY_FAMILY if self.interrupted => {}
                wire::SOCK_DIAG_BY_FAMILY => {
                    each(message.payload)?;
                    self.rows += 1;
                }
                wire::DONE => return self.finish(&message),
                wire::ERROR => {
                    let errno = failure(&message)?;
                    return Err(errno.map_or(ACKNOWLEDGED, Error::answer));
                }
                wire::NOOP => {}
                wire::OVERRUN => return Err(Error::Lost),
                _ => return Err(Error::Malformed("type of a message")),
            }
        }
        Ok(())
    }

    /// The last message may carry an error that came up half-way.
    fn finish(&mut self, message: &Message<'_>) -> Result<(), Error> {
        if let Some(errno) = failure(message)? {
            return Err(Error::answer(errno));
        }
        if self.interrupted {
            return Err(Error::Interrupted);
        }
        self.done = true;
        Ok(())
    }
}

/// The answers to a few lookups with sequence numbers in a row.
#[derive(Debug)]
pub struct Lookups {
    first: u32,
    /// A bit for each lookup that is still open.
    open: u32,
}

impl Lookups {
    /// How many there may be at once: their answers (up to 3 KiB of kernel memory each) must fit the default receive
    /// buffer of 208 KiB.
    pub const MOST: usize = 32;

    /// Awaits `count` answers (at most [`Self::MOST`]), the first one to sequence number `first`.
    #[must_use]
    pub fn new(first: u32, count: usize) -> Self {
        let unused = Self::MOST.saturating_sub(count);
        let unused = u32::try_from(unused).unwrap_or(u32::BITS);
        Self {
            first,
            open: u32::MAX.checked_shr(unused).unwrap_or(0),
        }
    }

    /// Whether every lookup has its answer.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Takes the next datagram of the kernel: calls `each` with the index of a lookup and its row, or `None` when the
    /// socket is gone. An error is final.
    pub fn take(
        &mut self,
        datagram: &[u8],
        each: &mut impl FnMut(usize, Option<&Row<'_>>),
    ) -> Result<(), Error> {
        for message in messages(datagram) {
            let message = message?;
            let index = message.sequence.wrapping_sub(self.first);
            let mark = 1u32.checked_shl(index).unwrap_or(0);
            if self.open & mark == 0 {
                continue;
            }
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            match message.kind {
                wire::SOCK_DIAG_BY_FAMILY => each(at, Some(&Row::parse(message.payload)?)),
                wire::ERROR => match failure(&message)? {
                    // Also said when the ends match and the cookie doesn't.
                    Some(Errno::NOENT | Errno::STALE) => each(at, None),
                    errno => return Err(errno.map_or(ACKNOWLEDGED, Error::answer)),
                },
                wire::NOOP => continue,
                wire::OVERRUN => return Err(Error::Lost),
                _ => return Err(Error::Malformed("type of a message")),
            }
            self.open &= !mark;
        }
        Ok(())
    }
}

const ACKNOWLEDGED: Error = Error::Malformed("acknowledgement instead of an answer");

/// The error number in a message, if it isn't 0.
fn failure(message: &Message<'_>) -> Result<Option<Errno>, Error> {
    match message.status()? {
        0 => Ok(None),
        status @ -4095..0 => Ok(Some(Errno::from_raw_os_error(-status))),
        _ => Err(Error::Malformed("error number")),
    }
}

/// Runs `attempt` with a fresh value until it doesn't fail for a passing reason, at most `attempts` times.
pub(crate) fn start_over<T>(
    attempts: u32,
    mut start: impl FnMut() -> T,
    mut attempt: impl FnMut(&mut T) -> Result<(), Error>,
) -> Result<T, Error> {
    let mut left = attempts;
    loop {
        left = left.saturating_sub(1);
        let mut value = start();
        match attempt(&mut value) {
            Ok(()) => return Ok(value),
            Err(error) if error.is_transient() && left > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
