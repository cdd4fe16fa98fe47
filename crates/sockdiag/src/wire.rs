//! Bytes on the wire: requests out, messages and attributes in. Pure, for those who bring their own socket.
//!
//! Netlink uses the host's byte order; only addresses and ports of a socket are in network order.

use crate::{Error, Query, SocketId, States, bytecode, query::Family, unix};

/// `NLMSG_NOOP`: nothing.
pub const NOOP: u16 = 1;
/// `NLMSG_ERROR`: the payload starts with a negative error number.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump; the payload starts with 0 or a negative error number.
pub const DONE: u16 = 3;
/// `NLMSG_OVERRUN`: data was lost.
pub const OVERRUN: u16 = 4;
/// `SOCK_DIAG_BY_FAMILY`: a request, or a row in the answer.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_DUMP_INTR`: the dump is inconsistent.
pub const DUMP_INTR: u16 = 0x10;

const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const TCP: u8 = 6;
/// The bit that asks for `INET_DIAG_INFO`.
const WITH_INFO: u8 = 1 << 1;
const BYTECODE: u16 = 1;

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;

/// Encodes a dump of one family, with its filter. Fails with [`Error::FilterTooLong`] only.
pub fn dump_request(query: &Query<'_>, family: Family, sequence: u32) -> Result<Vec<u8>, Error> {
    let filter = bytecode::compile(query.ports, query.cgroups)?;
    let mut body = request_body(family, query.info, query.states.bits());
    body.extend([0; SocketId::SIZE]);
    if !filter.is_empty() {
        let too_long = |_| Error::FilterTooLong {
            bytes: filter.len(),
            limit: bytecode::LIMIT,
        };
        let length = u16::try_from(ATTRIBUTE + filter.len()).map_err(too_long)?;
        body.extend(length.to_ne_bytes());
        body.extend(BYTECODE.to_ne_bytes());
        body.extend(filter);
    }
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    push_message(&mut bytes, REQUEST | DUMP, sequence, &body);
    Ok(bytes)
}

/// Encodes a dump of the Unix sockets in one of `states`.
#[must_use]
pub fn unix_request(states: States, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_message(
        &mut bytes,
        REQUEST | DUMP,
        sequence,
        &unix::request_body(states),
    );
    bytes
}

/// Appends the request for one socket. Several of them can go out as one datagram.
pub fn push_lookup(bytes: &mut Vec<u8>, id: &SocketId, info: bool, sequence: u32) {
    // The kernel ignores the states of an exact request.
    let mut body = request_body(id.family(), info, u32::MAX);
    body.extend(id.to_bytes());
    push_message(bytes, REQUEST, sequence, &body);
}

/// `struct inet_diag_req_v2` up to its `id`.
fn request_body(family: Family, info: bool, states: u32) -> Vec<u8> {
    let mut body = vec![family.number(), TCP, if info { WITH_INFO } else { 0 }, 0];
    body.extend(states.to_ne_bytes());
    body
}

fn push_message(bytes: &mut Vec<u8>, flags: u16, sequence: u32, body: &[u8]) {
    // Bodies are at most a filter of 64 KiB and 60 bytes more.
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is, for example [`DONE`].
    pub kind: u16,
    /// Flags, for example [`DUMP_INTR`].
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// All behind the header, without padding.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The error number that [`DONE`] and [`ERROR`] start with: 0 or negative.
    pub fn status(&self) -> Result<i32, Error> {
        let bytes = self.payload.first_chunk();
        let bytes = bytes.ok_or(Error::Malformed("status shorter than 4 bytes"))?;
        Ok(i32::from_ne_bytes(*bytes))
    }
}

/// Walks the messages of one datagram. Ends behind the first error.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Error>> {
    let mut rest = datagram;
    std::iter::from_fn(move || next_or_stop(&mut rest, message))
}

/// One attribute of a row: its number and its value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Error>> {
    let mut rest = bytes;
    std::iter::from_fn(move || next_or_stop(&mut rest, attribute))
}

/// Takes one item off `rest`; nothing is left of it behind an error.
fn next_or_stop<'a, T>(
    rest: &mut &'a [u8],
    take: impl FnOnce(&mut &'a [u8]) -> Result<T, Error>,
) -> Option<Result<T, Error>> {
    if rest.is_empty() {
        return None;
    }
    let item = take(rest);
    if item.is_err() {
        *rest = &[];
    }
    Some(item)
}

fn message<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, Error> {
    let mut head = Cursor(rest);
    let short = Error::Malformed("message header cut off");
    let length = u32::from_ne_bytes(head.take().ok_or(short)?);
    let kind = u16::from_ne_bytes(head.take().ok_or(short)?);
    let flags = u16::from_ne_bytes(head.take().ok_or(short)?);
    let sequence = u32::from_ne_bytes(head.take().ok_or(short)?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let payload = split(rest, HEADER, length).ok_or(Error::Malformed("length of a message"))?;
    Ok(Message {
        kind,
        flags,
        sequence,
        payload,
    })
}

fn attribute<'a>(rest: &mut &'a [u8]) -> Result<(u16, &'a [u8]), Error> {
    /// The two upper bits are flags (nested, network byte order).
    const NUMBER: u16 = 0x3fff;
    let mut head = Cursor(rest);
    let short = Error::Malformed("attribute header cut off");
    let length = u16::from_ne_bytes(head.take().ok_or(short)?);
    let number = u16::from_ne_bytes(head.take().ok_or(short)?) & NUMBER;
    let value = split(rest, ATTRIBUTE, length.into());
    Ok((
        number,
        value.ok_or(Error::Malformed("length of an attribute"))?,
    ))
}

/// Takes `length` bytes and the padding to 4 off `rest`; returns them without the first `header` ones.
/// The padding of the last item may be missing.
fn split<'a>(rest: &mut &'a [u8], header: usize, length: usize) -> Option<&'a [u8]> {
    let value = rest.get(header..length)?;
    let padded = length.checked_next_multiple_of(4)?.min(rest.len());
    *rest = rest.get(padded..)?;
    Some(value)
}

/// Reads from the front of a slice.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl Cursor<'_> {
    /// The next `N` bytes, or nothing once fewer are left.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }
}
