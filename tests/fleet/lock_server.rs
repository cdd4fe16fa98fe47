//! A FleetLock server: the protocol and nothing else.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) struct LockServer {
    pub(crate) address: String,
    holders: Arc<Mutex<BTreeSet<String>>>,
}

impl LockServer {
    /// One with so many slots, until the test ends.
    pub(crate) fn start(slots: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let holders = Arc::new(Mutex::new(BTreeSet::new()));
        let shared = holders.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared, slots));
            }
        });
        Self { address, holders }
    }

    pub(crate) fn holders(&self) -> BTreeSet<String> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.clone()
    }
}

fn serve(mut stream: TcpStream, holders: &Mutex<BTreeSet<String>>, slots: usize) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    let body = loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => text.extend_from_slice(&piece[..read]),
        }
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((_, body)) = whole.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str::<Value>(body)
        {
            break body;
        }
    };
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let id = body["client_params"]["id"].as_str().unwrap_or_default();
    let group = body["client_params"]["group"].as_str().unwrap_or_default();
    let mut held = holders.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = if !head.contains("fleet-lock-protocol: true") || id.is_empty() || group != "web" {
        Err((400, "bad_request", "not the protocol"))
    } else if head.starts_with("post /v1/pre-reboot ") {
        if held.contains(id) || held.len() < slots {
            held.insert(id.to_owned());
            Ok(())
        } else {
            Err((
                409,
                "failed_lock_semaphore_full",
                "semaphore currently full, all slots are locked",
            ))
        }
    } else {
        held.remove(id);
        Ok(())
    };
    drop(held);
    let (status, body) = match answer {
        Ok(()) => (200, String::new()),
        Err((status, kind, value)) => (status, json!({ "kind": kind, "value": value }).to_string()),
    };
    let length = body.len();
    let _ = stream.write_all(
        format!(
            "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .as_bytes(),
    );
}
