//! What the hosts serve, by a program without a runtime: a thread a connection, kept alive, gone at once at SIGTERM.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse().ok());
    let host = env::var("LAB_HOST").unwrap_or_default();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.unwrap_or_default()))?;
    for connection in listener.incoming().flatten() {
        let host = host.clone();
        // A connection that breaks ends its own thread and nothing else.
        thread::spawn(move || serve(&connection, &host));
    }
    Ok(())
}

fn serve(connection: &TcpStream, host: &str) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut requests = BufReader::new(connection);
    loop {
        let mut line = String::new();
        if requests.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            requests.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        answer(connection, &mut requests, &target, length, host)?;
    }
}

fn answer(
    mut to: &TcpStream,
    from: &mut impl Read,
    target: &str,
    length: u64,
    host: &str,
) -> io::Result<()> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = |name: &str| -> f64 {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    };
    let whole = |to: &mut &TcpStream, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Host: {host}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        to.write_all(&[head.as_bytes(), body].concat())
    };
    match path {
        "/slow" => {
            thread::sleep(Duration::from_secs_f64(asked("s=")));
            whole(&mut to, b"done\n")
        }
        "/stream" => {
            let head =
                format!("HTTP/1.1 200 OK\r\nX-Host: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
            to.write_all(head.as_bytes())?;
            let gap = Duration::from_secs_f64(asked("gap="));
            let length = Duration::from_secs_f64(asked("s="));
            let mut at = Duration::ZERO;
            for number in 0.. {
                if number > 0 {
                    thread::sleep(gap);
                }
                let chunk = format!("chunk {number}\n");
                to.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())?;
                at += gap;
                if at > length {
                    break;
                }
            }
            to.write_all(b"0\r\n\r\n")
        }
        "/download" => {
            let count = query.strip_prefix("bytes=").and_then(|n| n.parse().ok());
            let body: Vec<u8> = (0..=250).cycle().take(count.unwrap_or(0)).collect();
            whole(&mut to, &body)
        }
        "/upload" => {
            let mut body = Vec::new();
            from.take(length).read_to_end(&mut body)?;
            let sum: u64 = body.iter().copied().map(u64::from).sum();
            whole(
                &mut to,
                format!("{} bytes, sum {sum}\n", body.len()).as_bytes(),
            )
        }
        _ => whole(&mut to, b"ok\n"),
    }
}
