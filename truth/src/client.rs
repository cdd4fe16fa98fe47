//! An HTTP/1.1 client that can misbehave.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::plan::Plan;

/// One connection, kept alive.
#[derive(Debug)]
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// Connects from this address.
    pub(crate) fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Result<Self> {
        let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&stream, &SocketAddr::from((from, 0)))?;
        connect(&stream, &to)?;
        let stream = TcpStream::from(stream);
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// A whole request.
    pub(crate) fn ask(&mut self, plan: &Plan, body: usize) -> Result<()> {
        let bytes = [head(plan, body, "").as_bytes(), &vec![b'.'; body]].concat();
        self.send(&bytes)
    }

    /// A request whose body waits for the server's word.
    pub(crate) fn ask_and_wait(&mut self, plan: &Plan, body: usize) -> Result<()> {
        self.send(head(plan, body, "Expect: 100-continue\r\n").as_bytes())?;
        let status = self.status()?;
        if !status.contains(" 100 ") {
            bail!("refused: {status}");
        }
        self.send(&vec![b'.'; body])
    }

    /// A request's head and the first half of its body.
    pub(crate) fn ask_half(&mut self, plan: &Plan, body: usize) -> Result<()> {
        let half = vec![b'.'; body / 2];
        self.send(&[head(plan, body, "").as_bytes(), &half].concat())
    }

    /// Bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.reader.get_ref().write_all(bytes)?)
    }

    /// Reads one whole answer.
    pub(crate) fn answer(&mut self) -> Result<()> {
        let mut left = Some(0);
        let mut status = self.status()?;
        while status.contains(" 100 ") {
            status = self.status()?;
        }
        if !status.contains(" 200 ") {
            bail!("answer: {status}");
        }
        for line in status.lines() {
            match line
                .split_once(": ")
                .map(|(k, v)| (k.to_ascii_lowercase(), v))
            {
                Some((name, value)) if name == "content-length" => left = Some(value.parse()?),
                Some((name, _)) if name == "transfer-encoding" => left = None,
                _ => {}
            }
        }
        let Some(left) = left else {
            return self.chunks();
        };
        self.skip(left)
    }

    /// Sends a FIN and stays to read.
    pub(crate) fn half_close(&self) -> Result<()> {
        Ok(self.reader.get_ref().shutdown(std::net::Shutdown::Write)?)
    }

    /// Goes away with a RST.
    pub(crate) fn vanish(self) -> Result<()> {
        rustix::net::sockopt::set_socket_linger(self.reader.get_ref(), Some(Duration::ZERO))?;
        Ok(())
    }

    fn status(&mut self) -> Result<String> {
        let mut head = String::new();
        loop {
            let before = head.len();
            if self.reader.read_line(&mut head)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if head.get(before..) == Some("\r\n") {
                return Ok(head);
            }
        }
    }

    fn chunks(&mut self) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim_end(), 16).context("size of a chunk")?;
            self.skip(size + 2)?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let read = io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink())?;
        if read < bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }
}

/// A request's head; `more` are whole header lines.
pub(crate) fn head(plan: &Plan, body: usize, more: &str) -> String {
    let verb = if body == 0 { "GET" } else { "POST" };
    format!("{verb} {plan} HTTP/1.1\r\nHost: lab\r\nContent-Length: {body}\r\n{more}\r\n")
}
