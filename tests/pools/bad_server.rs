//! Servers that do everything but what they should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A server whose answer can be set. It lives as long as the test's process.
pub(crate) struct BadServer {
    address: String,
    answer: Arc<Mutex<Answer>>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Never one.
    Hang,
    /// The connection is reset.
    Reset,
    /// One byte at a time, for ever.
    Trickle,
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// This status, with the request's own head as body.
    Echo(u16),
    /// Status 200 with a body chosen by the path.
    Bodies(Vec<(&'static str, Vec<u8>)>),
}

impl BadServer {
    pub(crate) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let shared = Arc::clone(&answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let answer = shared.lock().unwrap().clone();
                serve(stream.unwrap(), answer);
            }
        });
        Self { address, answer }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

fn serve(mut stream: TcpStream, answer: Answer) {
    if matches!(answer, Answer::Reset) {
        // Closed with the request unread.
        return;
    }
    let mut head = Vec::new();
    let mut byte = [0];
    // A head of HTTP, or one line of a simpler protocol.
    let is_whole = |head: &[u8]| {
        head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n") && !head.ends_with(b"\r\n")
    };
    while !is_whole(&head) && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let with = |status: u16, body: &[u8]| {
        let length = body.len();
        let mut answer =
            format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    // The client may have gone.
    let _ = match answer {
        Answer::Hang => {
            std::mem::forget(stream);
            Ok(())
        }
        Answer::Reset => Ok(()),
        Answer::Trickle => {
            thread::spawn(move || {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            });
            Ok(())
        }
        Answer::Raw(bytes) => stream.write_all(&bytes),
        Answer::Echo(status) => stream.write_all(&with(status, head.replace('\r', "").as_bytes())),
        Answer::Bodies(bodies) => {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = bodies
                .iter()
                .find(|(beginning, _)| path.starts_with(beginning))
                .map_or(&b"null"[..], |(_, body)| body);
            stream.write_all(&with(200, body))
        }
    };
}
