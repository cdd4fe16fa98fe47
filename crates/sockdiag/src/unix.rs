//! Unix sockets, as `unix_diag` tells them (`struct unix_diag_msg`, include/uapi/linux/unix_diag.h; since Linux 3.3). The kernel keeps
//! neither ages nor counters of them: only states, queues and who is connected to whom.

use crate::wire::{Cursor, attributes};
use crate::{Error, Shutdown, States, TcpState};

/// `AF_UNIX`.
const FAMILY: u8 = 1;
/// `UDIAG_SHOW_NAME`, `UDIAG_SHOW_PEER` and `UDIAG_SHOW_RQLEN`.
const SHOW: u32 = 0x1 | 0x4 | 0x10;

/// What kind of socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixKind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_SEQPACKET`.
    Packets,
    /// `SOCK_DGRAM`, or one that this crate does not know.
    Other,
}

/// One Unix socket. Parsed in place; nothing is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixRow<'a> {
    /// [`TcpState::Listen`], [`TcpState::Established`] or [`TcpState::Close`]; the kernel uses TCP's numbers.
    pub state: TcpState,
    /// What kind of socket it is.
    pub kind: UnixKind,
    /// Inode, as in `/proc/PID/fd`; 0 while it waits to be accepted.
    pub inode: u32,
    /// As for TCP: not 0, never used again before a reboot.
    pub cookie: u64,
    /// What it is bound to: a path, or an abstract name that begins with a 0 byte. An accepted socket has its listener's.
    pub name: Option<&'a [u8]>,
    /// The inode of the socket at the other end; absent once that is closed.
    pub peer: Option<u32>,
    /// Of a listener the connections that wait to be accepted, else the bytes that were received and not yet read.
    pub rqueue: u32,
    /// Of a listener the most that may wait; else the memory of what the other end has not yet read, bytes.
    pub wqueue: u32,
    /// Which directions are shut down.
    pub shutdown: Option<Shutdown>,
}

impl<'a> UnixRow<'a> {
    /// Parses the payload of a `SOCK_DIAG_BY_FAMILY` message.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let mut bytes = Cursor(payload);
        let mut row =
            Self::head(&mut bytes).ok_or(Error::Malformed("row shorter than 16 bytes"))?;
        for attribute in attributes(bytes.0) {
            row.add(attribute?)?;
        }
        Ok(row)
    }

    fn head(bytes: &mut Cursor<'a>) -> Option<Self> {
        let [_family, kind, state, _pad] = bytes.take()?;
        let inode = u32::from_ne_bytes(bytes.take()?);
        // Two words, the lower one first on every machine.
        let low = u32::from_ne_bytes(bytes.take()?);
        let high = u32::from_ne_bytes(bytes.take()?);
        Some(Self {
            state: state.into(),
            kind: match kind {
                1 => UnixKind::Stream,
                5 => UnixKind::Packets,
                _ => UnixKind::Other,
            },
            inode,
            cookie: u64::from(high) << 32 | u64::from(low),
            name: None,
            peer: None,
            rqueue: 0,
            wqueue: 0,
            shutdown: None,
        })
    }

    fn add(&mut self, (number, value): (u16, &'a [u8])) -> Result<(), Error> {
        const NAME: u16 = 0;
        const PEER: u16 = 2;
        const QUEUES: u16 = 4;
        const SHUTDOWN: u16 = 6;
        let short = Error::Malformed("attribute of a Unix socket cut off");
        let mut bytes = Cursor(value);
        match number {
            // A path comes with the 0 byte that ends it, an abstract name without.
            NAME => {
                let end = match value {
                    [0, ..] => None,
                    path => path.iter().position(|byte| *byte == 0),
                };
                self.name = Some(end.map_or(value, |end| &value[..end]));
            }
            PEER => {
                let peer = u32::from_ne_bytes(bytes.take().ok_or(short)?);
                self.peer = (peer != 0).then_some(peer);
            }
            QUEUES => {
                self.rqueue = u32::from_ne_bytes(bytes.take().ok_or(short)?);
                self.wqueue = u32::from_ne_bytes(bytes.take().ok_or(short)?);
            }
            SHUTDOWN => {
                let [bits] = bytes.take().ok_or(short)?;
                self.shutdown = Some(bits.into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// `struct unix_diag_req` for every socket in one of `states`. There are no filters in the kernel beyond that.
pub(crate) fn request_body(states: States) -> Vec<u8> {
    let mut body = vec![FAMILY, 0, 0, 0];
    body.extend(states.bits().to_ne_bytes());
    body.extend(0u32.to_ne_bytes());
    body.extend(SHOW.to_ne_bytes());
    // No cookie.
    body.extend([u8::MAX; 8]);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![1, 1, 1, 0];
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(9u32.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        for (number, value) in attributes {
            let length = u16::try_from(4 + value.len()).unwrap();
            bytes.extend(length.to_ne_bytes());
            bytes.extend(number.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_row_has_what_the_kernel_told() {
        let queues = [3u32.to_ne_bytes(), 5u32.to_ne_bytes()].concat();
        let bytes = row(&[
            (0, b"/run/a.sock\0"),
            (2, &11u32.to_ne_bytes()),
            (4, &queues),
            (6, &[1]),
            (77, b"?"),
        ]);
        let row = UnixRow::parse(&bytes).unwrap();
        assert_eq!(row.name, Some(&b"/run/a.sock"[..]));
        assert_eq!(
            (row.inode, row.peer, row.cookie),
            (7, Some(11), 1 << 32 | 9)
        );
        assert_eq!((row.rqueue, row.wqueue), (3, 5));
        assert_eq!(
            (row.state, row.kind),
            (TcpState::Established, UnixKind::Stream)
        );
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let bytes = row(&[(2, &11u32.to_ne_bytes())]);
        for end in (0..16).chain(17..20) {
            assert!(UnixRow::parse(&bytes[..end]).is_err(), "{end}");
        }
        assert!(UnixRow::parse(&row(&[(4, &[0; 7])])).is_err());
        assert!(UnixRow::parse(&row(&[(6, &[])])).is_err());
    }
}
