//! As much HTTP/1.1 as two parts of one program need to talk to each other: heads, and bodies whose length is known or chunked.

use std::io::{self, BufRead, ErrorKind, Read, Write};

/// The largest head that is read, in bytes.
const LARGEST_HEAD: usize = 8 << 10;

/// Reads a head with the empty line behind it; `None` when the connection was closed before its first byte.
///
/// # Errors
/// What the system says; `UnexpectedEof` and `InvalidData` for half a head and one that is too large or no text.
pub fn head(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let line = line(from)?;
        match (line.is_empty(), head.is_empty()) {
            (true, true) => return Ok(None),
            (true, false) => return Err(ErrorKind::UnexpectedEof.into()),
            _ if head.len() + line.len() > LARGEST_HEAD => return Err(malformed()),
            _ => head.push_str(&line),
        }
        if line == "\r\n" {
            return Ok(Some(head));
        }
    }
}

/// Copies the body that follows `head`, as it is framed, piece by piece.
///
/// # Errors
/// What the system says; `UnexpectedEof` when it is cut short.
pub fn copy_body(head: &str, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    if let Some(length) = field(head, "content-length") {
        let length = length.parse().map_err(|_| malformed())?;
        return copy(from, to, length);
    }
    loop {
        let size = line(from)?;
        to.write_all(size.as_bytes())?;
        let size = u64::from_str_radix(size.trim_end(), 16).map_err(|_| malformed())?;
        // Each chunk has a line end of its own.
        copy(from, to, size + 2)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write, length: u64) -> io::Result<()> {
    if io::copy(&mut from.take(length), to)? < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// One line with its end; empty at the end of the stream.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.take(LARGEST_HEAD as u64).read_line(&mut line)?;
    if line.is_empty() || line.ends_with('\n') {
        return Ok(line);
    }
    Err(ErrorKind::UnexpectedEof.into())
}

fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "not the HTTP that is spoken here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relayed(stream: &str) -> io::Result<(String, String)> {
        let mut from = stream.as_bytes();
        let head = head(&mut from)?.unwrap();
        let mut body = Vec::new();
        copy_body(&head, &mut from, &mut body)?;
        assert!(from.is_empty());
        Ok((head, String::from_utf8(body).unwrap()))
    }

    #[test]
    fn bodies_are_copied_as_they_are_framed() {
        let (head, body) = relayed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        assert!(head.ends_with("3\r\n\r\n"));
        assert_eq!(body, "abc");
        let (_, body) = relayed("HTTP/1.1 200 OK\r\n\r\n3\r\nabc\r\n0\r\n\r\n").unwrap();
        assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for stream in [
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\n\r\n3\r\nabc\r\n0\r\n",
        ] {
            assert!(relayed(stream).is_err(), "{stream:?}");
        }
        assert!(head(&mut "".as_bytes()).unwrap().is_none());
    }
}
