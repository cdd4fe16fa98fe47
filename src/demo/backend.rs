//! A plain server, as many stand behind balancers: a thread a connection, kept alive, and gone at once at SIGTERM.

use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::load::{CHUNKS, GAP};
use super::wire;

/// Serves until the process is ended, on `port`, or on any that is free where that is 0. Prints its port first. `/health` says that it drains while `marker` exists.
///
/// # Errors
/// What the system says.
pub fn serve(marker: &Path, port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    let marker: Arc<Path> = marker.into();
    for connection in listener.incoming() {
        let (connection, marker) = (connection?, marker.clone());
        // A connection that breaks ends its own thread and nothing else.
        thread::spawn(move || answer_all(&connection, &marker));
    }
    Ok(())
}

fn answer_all(connection: &TcpStream, marker: &Path) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut requests = BufReader::new(connection);
    while let Some(head) = wire::head(&mut requests)? {
        let path = head.split(' ').nth(1).unwrap_or_default();
        answer(connection, path, marker)?;
    }
    Ok(())
}

fn answer(mut to: &TcpStream, path: &str, marker: &Path) -> io::Result<()> {
    if path == "/stream" {
        to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..CHUNKS {
            to.write_all(b"6\r\npiece\n\r\n")?;
            thread::sleep(GAP);
        }
        return to.write_all(b"0\r\n\r\n");
    }
    let (status, body) = match path.strip_prefix("/slow/").map(str::parse) {
        Some(Ok(seconds)) => {
            thread::sleep(Duration::from_secs(seconds));
            ("200 OK", "done\n")
        }
        None if path == "/health" && marker.exists() => ("503 Service Unavailable", "drains\n"),
        None if path == "/health" || path == "/short" => ("200 OK", "ok\n"),
        _ => ("404 Not Found", "no such page\n"),
    };
    let length = body.len();
    to.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
}
