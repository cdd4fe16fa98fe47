//! An HTTP/1.1 server that keeps the book.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt;
use rustls::{ServerConfig, ServerConnection};

use crate::book::{Book, Truth};
use crate::http2;
use crate::plan::Plan;
use crate::tls::{self, Speech};

/// Thousands of threads, each with a few buffers.
pub(crate) const STACK: usize = 256 << 10;

/// Serves `address` until the program ends.
pub(crate) fn serve(
    address: SocketAddr,
    speech: Speech,
    keepalive: bool,
    book: &Arc<Book>,
) -> Result<()> {
    if speech.is_http2() {
        return http2::serve(address, speech, book);
    }
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    // The standard library's 128 would refuse a pool that is opened at once.
    rustix::net::listen(&listener, 2048)?;
    if keepalive {
        // What it accepts inherits it.
        sockopt::set_socket_keepalive(&listener, true)?;
        sockopt::set_tcp_keepidle(&listener, Duration::from_secs(1))?;
        sockopt::set_tcp_keepintvl(&listener, Duration::from_secs(1))?;
    }
    let config = speech.server()?;
    let book = Arc::clone(book);
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let book = Arc::clone(&book);
            let config = config.clone();
            spawn(move || {
                // A client that goes away is part of the game.
                let _ = connection(stream, config.as_ref(), &book);
            });
        }
    });
    Ok(())
}

/// A thread with a small stack; without one the lab can't go on.
pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(run) {
        eprintln!("no thread: {error}");
    }
}

fn connection(stream: TcpStream, config: Option<&Arc<ServerConfig>>, book: &Book) -> Result<()> {
    stream.set_nodelay(true)?;
    let cookie = rustix::net::sockopt::socket_cookie(&stream)?;
    let truth = book.open(cookie);
    // Keeps the socket open until it is struck out.
    let _last = stream.try_clone()?;
    let end = requests(stream, config, &truth);
    book.close(cookie);
    end
}

/// A connection, over TLS or not.
struct Line {
    stream: TcpStream,
    session: Option<Box<ServerConnection>>,
    /// What came before the handshake was over, and was not read yet.
    early: VecDeque<u8>,
}

impl Line {
    /// Waits for more from the client, and leaves it where it is; false at the end.
    fn wait(&mut self) -> io::Result<bool> {
        if !self.early.is_empty() {
            return Ok(true);
        }
        if let Some(session) = &mut self.session {
            let state = session.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                return Ok(true);
            }
        }
        Ok(self.stream.peek(&mut [0])? > 0)
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            return self.early.read(buffer);
        }
        let Some(session) = &mut self.session else {
            return self.stream.read(buffer);
        };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tls::record(&mut self.stream, session).map_err(io::Error::other)?;
                }
                other => return other,
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.stream.write(bytes);
        };
        let count = session.writer().write(bytes)?;
        while session.wants_write() {
            session.write_tls(&mut self.stream)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn requests(
    mut stream: TcpStream,
    config: Option<&Arc<ServerConfig>>,
    truth: &Truth,
) -> Result<()> {
    let (session, early) = match config {
        Some(config) => {
            let (session, early) = tls::accept(&mut stream, config)?;
            truth.ready();
            (Some(Box::new(session)), early.into())
        }
        None => (None, VecDeque::new()),
    };
    let line = Line {
        stream,
        session,
        early,
    };
    let mut reader = BufReader::with_capacity(16 << 10, line);
    loop {
        // Between this and the read the bytes lie in the queue, so the book is never behind the kernel.
        if !reader.get_mut().wait()? {
            return Ok(());
        }
        truth.asked();
        // What came may have been no more than the notice that a client of TLS gives of its end.
        if reader.fill_buf()?.is_empty() {
            truth.answered();
            return Ok(());
        }
        // Pipelined requests that were read along are in flight with the first.
        loop {
            request(&mut reader, truth)?;
            if reader.buffer().is_empty() {
                break;
            }
        }
        truth.answered();
    }
}

/// What matters of a request's head.
struct Head {
    plan: Plan,
    length: u64,
    continues: bool,
    upgrades: bool,
}

fn request(reader: &mut BufReader<Line>, truth: &Truth) -> Result<()> {
    let head = head(reader)?;
    truth.serves(head.plan);
    if head.upgrades {
        return messages(reader, truth);
    }
    if head.continues {
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if head.plan.early {
        answer(reader.get_mut(), &head.plan)?;
        // The request is answered; what follows of it is read and thrown away.
        truth.answered();
        skip(reader, head.length)?;
        truth.asked();
        return Ok(());
    }
    skip(reader, head.length)?;
    thread::sleep(Duration::from_millis(head.plan.wait));
    answer(reader.get_mut(), &head.plan)
}

/// A WebSocket, until the client closes: messages are sent back. One that ends with `[` begins a conversation, one with `]` ends it, and
/// only during one is something in flight. Where the first one ends with neither, the whole of it is.
fn messages(reader: &mut BufReader<Line>, truth: &Truth) -> Result<()> {
    let line = reader.get_mut();
    line.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    let mut talks = true;
    let mut message = [0; 16 << 10];
    loop {
        if !line.wait()? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if !talks {
            truth.asked();
            talks = true;
        }
        let count = line.read(&mut message)?;
        line.write_all(&message[..count])?;
        if message[..count].ends_with(b"]") {
            truth.answered();
            talks = false;
        }
    }
}

fn skip(reader: &mut impl Read, length: u64) -> io::Result<()> {
    let read = io::copy(&mut reader.take(length), &mut io::sink())?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn head(reader: &mut impl BufRead) -> Result<Head> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("no request line")?;
    let mut head = Head {
        plan: Plan::parse(path).with_context(|| format!("no plan in {path}"))?,
        length: 0,
        continues: false,
        upgrades: false,
    };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Ok(head);
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse()?,
            "expect" => head.continues = true,
            "upgrade" => head.upgrades = true,
            _ => {}
        }
    }
}

fn answer(stream: &mut Line, plan: &Plan) -> Result<()> {
    let body = vec![b'.'; plan.size];
    if plan.parts == 0 {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", plan.size);
        if plan.gap == 0 {
            stream.write_all(&[head.as_bytes(), &body].concat())?;
        } else {
            stream.write_all(head.as_bytes())?;
            thread::sleep(plan.gap());
            stream.write_all(&body)?;
        }
        return Ok(());
    }
    let mut head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for part in 1..=plan.parts {
        let chunk = [
            format!("{head}{:x}\r\n", plan.size).as_bytes(),
            &body,
            b"\r\n",
        ]
        .concat();
        stream.write_all(&chunk)?;
        head.clear();
        if part < plan.parts {
            thread::sleep(plan.gap());
        }
    }
    stream.write_all(b"0\r\n\r\n")?;
    Ok(())
}
