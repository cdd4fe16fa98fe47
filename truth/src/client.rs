//! An HTTP/1.1 client that can misbehave.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::plan::Plan;
use crate::tls::{self, Speech};

/// Where a client connects to, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct To {
    /// The address.
    pub(crate) address: SocketAddr,
    /// What is spoken there.
    pub(crate) speech: Speech,
    /// Whether sessions are resumed.
    pub(crate) resumes: bool,
}

impl To {
    /// Without TLS.
    pub(crate) const fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            speech: Speech::Plain,
            resumes: false,
        }
    }
}

/// The connection itself.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<tls::ClientStream>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(stream) => tls::write(stream, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// One connection, kept alive.
#[derive(Debug)]
pub(crate) struct Client {
    reader: BufReader<Stream>,
}

impl Client {
    /// Connects; over TLS, the handshake is over when this returns, but where a request may go along with it.
    pub(crate) fn connect(to: To) -> Result<Self> {
        let tcp = TcpStream::connect(to.address)?;
        tcp.set_nodelay(true)?;
        let stream = if to.speech.is_tls() {
            Stream::Tls(Box::new(tls::connect(tcp, to)?))
        } else {
            Stream::Plain(tcp)
        };
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
            reader: BufReader::new(Stream::Plain(stream)),
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
        Ok(self.reader.get_mut().write_all(bytes)?)
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

    /// Asks for a WebSocket, and waits until it is one.
    pub(crate) fn upgrade(&mut self) -> Result<()> {
        // The example of RFC 6455, 1.3: HAProxy takes no answer without the key's counterpart.
        let head = head(
            &Plan::default(),
            0,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        );
        self.send(head.as_bytes())?;
        let status = self.status()?;
        if !status.contains(" 101 ") {
            bail!("no WebSocket: {status}");
        }
        Ok(())
    }

    /// A message of a WebSocket, and its echo.
    pub(crate) fn say(&mut self, message: &[u8]) -> Result<()> {
        self.send(message)?;
        self.skip(u64::try_from(message.len())?)
    }

    /// Sends a FIN and stays to read.
    pub(crate) fn half_close(&self) -> Result<()> {
        Ok(self
            .reader
            .get_ref()
            .tcp()
            .shutdown(std::net::Shutdown::Write)?)
    }

    /// Goes away with a RST.
    pub(crate) fn vanish(self) -> Result<()> {
        rustix::net::sockopt::set_socket_linger(self.reader.get_ref().tcp(), Some(Duration::ZERO))?;
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
