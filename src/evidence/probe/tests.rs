use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::shake::PATIENCE;
use super::*;
use crate::evidence::Role;

/// The address of a server that does this with each connection.
fn serve(mut each: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut each));
    address
}

fn found(address: SocketAddr) -> Spoken {
    probe(address, Deadline::after(Duration::from_secs(20)))
}

fn tls(tickets: usize, protocols: &[&[u8]]) -> SocketAddr {
    tls_with(|config| {
        config.send_tls13_tickets = tickets;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    })
}

fn tls_with(set: impl FnOnce(&mut ServerConfig)) -> SocketAddr {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["lab".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    set(&mut config);
    let config = Arc::new(config);
    serve(move |stream| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        // Until the client goes.
        let _ = StreamOwned::new(session, stream).read(&mut [0; 100]);
    })
}

fn handshake(spoken: Spoken) -> Handshake {
    match spoken.transport {
        Transport::Tls(handshake) => handshake,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handshake_is_measured_with_its_tickets_and_when_it_resumes() {
    let spoken = found(tls(2, &[]));
    let with = handshake(spoken);
    assert!(with.newer && !with.asks_certificate);
    assert!(spoken.http1 && !spoken.http2);
    let resumed = with.resumed.unwrap();
    assert!(resumed.first < with.full.first, "{with:?}");
    assert!(with.full.last > 0);
    assert_eq!(with.full.writes, 2);
    let without = handshake(found(tls(0, &[])));
    assert_eq!((without.full.last, without.full.writes), (0, 1));
    assert_eq!(without.resumed, None);
}

#[test]
fn a_server_that_takes_requests_with_the_hello_is_known() {
    let with = handshake(found(tls_with(|config| config.max_early_data_size = 1000)));
    assert!(with.early_data && with.resumed.is_some(), "{with:?}");
    assert!(!handshake(found(tls(2, &[]))).early_data);
}

#[test]
fn a_server_that_refuses_post_quantum_keys_is_known_and_only_that() {
    let address = tls(2, &[]);
    assert!(!handshake(found(address)).hybrid_keys);
    assert!(!hybrid::is_taken(
        &Door::open(address),
        Deadline::after(PATIENCE)
    ));
    let answers = serve(|mut stream| {
        let mut hello = [0; 5];
        let _ = stream.read_exact(&mut hello);
        let _ = stream.write_all(&[22, 3, 3]);
        let _ = stream.read(&mut [0; 2000]);
    });
    assert!(hybrid::is_taken(
        &Door::open(answers),
        Deadline::after(PATIENCE)
    ));
    assert!(hybrid::is_taken(
        &Door::open(serve(drop)),
        Deadline::after(PATIENCE)
    ));
}

#[test]
fn http_2_is_told_by_what_the_server_chooses() {
    let both = found(tls(2, &[b"h2", b"http/1.1"]));
    assert!(both.http1 && both.http2, "{both:?}");
    let only = found(tls(2, &[b"h2"]));
    assert!(!only.http1 && only.http2, "{only:?}");
}

#[test]
fn a_server_without_tls_is_told_by_its_answer_or_its_end() {
    let answers = found(serve(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }));
    assert_eq!(answers, Spoken::PLAIN);
    assert_eq!(found(serve(drop)), Spoken::PLAIN);
}

#[test]
fn a_server_that_waits_for_the_end_of_a_line_gets_one() {
    let spoken = found(serve(|mut stream| {
        let mut last = [0];
        while stream.read_exact(&mut last).is_ok() && last != *b"\n" {}
        let _ = stream.write_all(b"-ERR\r\n");
    }));
    assert_eq!(spoken, Spoken::PLAIN);
}

#[test]
fn http_2_without_tls_is_told_by_its_settings() {
    let spoken = found(serve(|mut stream| {
        let mut begin = [0; 3];
        if stream.read_exact(&mut begin).is_ok() && begin == *b"PRI" {
            let _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0");
            let _ = stream.read(&mut [0; 100]);
        }
    }));
    assert_eq!(spoken.transport, Transport::Plain);
    assert!(spoken.http2 && !spoken.http1);
}

#[test]
fn who_does_not_answer_is_not_known_and_nothing_is_kept() {
    // Never accepted: the kernel takes the connection, and nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let program = "web".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let role = Role::Own;
    let silent = Listener {
        local,
        program,
        process: None,
        role,
    };
    let kept = refresh(&root, &[silent], Duration::MAX).unwrap();
    assert!(kept.ports().is_empty());
    assert!(!root.exists("/var/lib/drainctl/ports.json"));
}

#[test]
fn what_is_kept_counts_for_the_same_program_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let local = serve(drop);
    let program = "web".to_owned();
    let role = Role::Own;
    let web = Listener {
        local,
        program,
        process: None,
        role,
    };
    refresh(&root, &[web.clone(), web.clone()], Duration::MAX).unwrap();
    let kept = Kept::read(&root);
    assert_eq!(kept.ports().len(), 1);
    assert_eq!(kept.of(&web), Spoken::PLAIN);
    let program = "other".to_owned();
    let other = Listener { program, ..web };
    assert_eq!(kept.of(&other), Spoken::default());
    root.replace("/var/lib/drainctl/ports.json", b"{", 0o600)
        .unwrap();
    assert!(Kept::read(&root).ports().is_empty());
}

#[test]
fn what_is_found_again_changes_nothing_and_another_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let at = |local| Listener {
        local,
        program: "web".to_owned(),
        process: None,
        role: Role::Own,
    };
    let file = || root.read("/var/lib/drainctl/ports.json", 10_000).unwrap();
    let both = tls(2, &[b"h2", b"http/1.1"]);
    refresh(&root, &[at(both)], Duration::ZERO).unwrap();
    let first = file();
    // Its signatures are some bytes longer or shorter each time.
    for _ in 0..8 {
        refresh(&root, &[at(both)], Duration::ZERO).unwrap();
        assert_eq!(file(), first);
    }
    let mut kept = Kept::read(&root);
    let other = found(tls(2, &[]));
    assert!(kept.put(&at(both), other));
    assert_eq!(kept.of(&at(both)), other);
}

#[test]
fn a_program_that_was_started_anew_is_asked_again() {
    let listener = |process: Option<&str>| Listener {
        local: "127.0.0.1:8080".parse().unwrap(),
        program: "web".to_owned(),
        process: process.map(str::to_owned),
        role: Role::Own,
    };
    let (before, now) = (listener(Some("boot:7")), listener(Some("boot:9")));
    let mut kept = Kept::default();
    kept.put(&before, Spoken::PLAIN);
    let fresh = |kept: &Kept, one: &Listener| kept.is_fresh(one, Duration::MAX);
    assert!(fresh(&kept, &before));
    assert!(!fresh(&kept, &now));
    assert!(
        fresh(&kept, &listener(None)),
        "who can't be told is the same"
    );
    assert_eq!(kept.of(&now), Spoken::PLAIN, "until it has answered");
    assert!(kept.put(&now, Spoken::PLAIN));
    assert!(fresh(&kept, &now) && !fresh(&kept, &before));
}

#[test]
fn beside_a_drain_each_unknown_port_is_asked_once() {
    let listener = |role| Listener {
        local: tls(2, &[]),
        program: "web".to_owned(),
        process: Some("boot:7".to_owned()),
        role,
    };
    let (own, closed) = (listener(Role::Own), listener(Role::Closed));
    let mut beside = Beside::default();
    let mut kept = Kept::default();
    assert!(beside.ask([&closed], &kept).is_empty());
    assert!(!beside.ask([&own, &closed], &kept).is_empty());
    assert!(beside.ask([&own], &kept).is_empty());
    let limit = Deadline::after(Duration::from_secs(20));
    let (listener, spoken) = loop {
        if let Some(heard) = beside.heard().pop() {
            break heard;
        }
        assert!(!limit.passed());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(listener, own);
    assert!(handshake(spoken).newer);
    kept.put(&own, spoken);
    assert!(Beside::default().ask([&own], &kept).is_empty());
}
