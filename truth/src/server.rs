//! An HTTP/1.1 server that keeps the book.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::book::{Book, Truth};
use crate::plan::Plan;

/// Thousands of threads, each with a few buffers.
pub(crate) const STACK: usize = 128 << 10;

/// Serves `address` until the program ends.
pub(crate) fn serve(address: SocketAddr, book: &Arc<Book>) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    // The standard library's 128 would refuse a pool that is opened at once.
    rustix::net::listen(&listener, 2048)?;
    let book = Arc::clone(book);
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let book = Arc::clone(&book);
            spawn(move || {
                // A client that goes away is part of the game.
                let _ = connection(stream, &book);
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

fn connection(stream: TcpStream, book: &Book) -> Result<()> {
    stream.set_nodelay(true)?;
    let cookie = rustix::net::sockopt::socket_cookie(&stream)?;
    let truth = book.open(cookie);
    let end = requests(&stream, &truth);
    book.close(cookie);
    end
}

fn requests(stream: &TcpStream, truth: &Truth) -> Result<()> {
    let mut reader = BufReader::with_capacity(16 << 10, stream);
    loop {
        // Between the peek and the read the bytes lie in the queue, so the book is never behind the kernel.
        if stream.peek(&mut [0])? == 0 {
            return Ok(());
        }
        truth.asked();
        // Pipelined requests that were read along are in flight with the first.
        loop {
            request(&mut reader, stream, truth)?;
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
}

fn request(reader: &mut BufReader<&TcpStream>, stream: &TcpStream, truth: &Truth) -> Result<()> {
    let head = head(reader)?;
    truth.serves(head.plan);
    if head.continues {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if head.plan.early {
        answer(stream, &head.plan)?;
        // The request is answered; what follows of it is read and thrown away.
        truth.answered();
        skip(reader, head.length)?;
        truth.asked();
        return Ok(());
    }
    skip(reader, head.length)?;
    thread::sleep(Duration::from_millis(head.plan.wait));
    answer(stream, &head.plan)
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
            _ => {}
        }
    }
}

fn answer(mut stream: &TcpStream, plan: &Plan) -> Result<()> {
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
