//! What a port without TLS answers to the preface of HTTP/2.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::door::Door;
use super::shake::{MOST_BYTES, PATIENCE, QUIET};
use crate::world::Deadline;

/// The preface and an empty SETTINGS frame (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of a SETTINGS frame, at this place of its head.
const SETTINGS: (usize, u8) = (3, 4);

/// The bytes that a server of HTTP/2 greets with: SETTINGS, and what it says to ours. None where another protocol is spoken.
///
/// # Errors
/// It can't be reached.
pub(super) fn preface(door: &Door, deadline: Deadline) -> io::Result<Option<u32>> {
    let stream = door.connect(deadline)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(greeting(stream))
}

fn greeting(mut stream: TcpStream) -> Option<u32> {
    let mut head = [0; 9];
    stream.write_all(PREFACE).ok()?;
    stream.read_exact(&mut head).ok()?;
    let (at, kind) = SETTINGS;
    if head[at] != kind || head[5..] != [0; 4] {
        return None;
    }
    let mut greeting = head.len();
    let mut part = [0; 1024];
    stream.set_read_timeout(Some(QUIET)).ok()?;
    while let Ok(count @ 1..) = stream.read(&mut part)
        && greeting < MOST_BYTES
    {
        greeting += count;
    }
    u32::try_from(greeting).ok()
}
