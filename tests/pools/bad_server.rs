//! Servers that do everything but what they should.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server whose answer can be set. It lives as long as the test's process.
pub(crate) struct BadServer {
    address: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
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
    /// Elsewhere.
    Redirect(String),
    /// Status 200 with more than anybody reads.
    Flood,
    /// Status 200 with a body chosen by the path.
    Bodies(Vec<(&'static str, Vec<u8>)>),
}

impl BadServer {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::with(answer, "http", serve)
    }

    /// One whose certificate nobody has reason to trust, and is for another host.
    pub(crate) fn impostor() -> Self {
        let made = rcgen::generate_simple_self_signed(["impostor.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        Self::with(Answer::Echo(200), "https", move |stream, answer| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(StreamOwned::new(session, stream), answer)
        })
    }

    fn with(
        answer: Answer,
        scheme: &str,
        serve: impl Fn(TcpStream, Answer) -> bool + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&answer), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let answer = shared.lock().unwrap().clone();
                if serve(stream.unwrap(), answer) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            address,
            answer,
            asked,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether its answers look like agreement.
    pub(crate) fn is_fine(&self) -> bool {
        matches!(*self.answer.lock().unwrap(), Answer::Echo(200))
    }

    /// How many requests have come so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

/// Whether a request came.
fn serve(mut stream: impl Read + Write + Send + 'static, answer: Answer) -> bool {
    if matches!(answer, Answer::Reset) {
        // Closed with the request unread.
        return true;
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
    if head.is_empty() {
        return false;
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    // Unread, it would reset the connection before the answer is read.
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
    let _ = stream.read_exact(&mut vec![0; length.unwrap_or(0)]);
    let with = |status: &str, header: &str, body: &[u8]| {
        let length = body.len();
        let mut answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{header}\r\n").into_bytes();
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
        Answer::Echo(status) => {
            let body = head.replace('\r', "");
            stream.write_all(&with(&format!("{status} Status"), "", body.as_bytes()))
        }
        Answer::Redirect(to) => {
            let location = format!("Location: {to}\r\n");
            stream.write_all(&with("307 Elsewhere", &location, b""))
        }
        Answer::Flood => stream.write_all(&with("200 OK", "", &vec![b'x'; 9 << 20])),
        Answer::Bodies(bodies) => {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let body = bodies
                .iter()
                .find(|(beginning, _)| path.starts_with(beginning))
                .map_or(&b"null"[..], |(_, body)| body);
            stream.write_all(&with("200 OK", "", body))
        }
    };
    true
}
