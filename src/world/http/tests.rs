use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// How much later than its deadline a call may return on a busy machine.
const GENEROUS: Duration = Duration::from_secs(10);

/// A server on loopback that lets `serve` have each connection, once the request's head has been read. It lives as long as
/// the test's process.
fn server(serve: impl Fn(TcpStream, String) + Send + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_head(&mut stream);
            serve(stream, head);
        }
    });
    client(&address)
}

fn client(address: &str) -> Client {
    Client::new(&Endpoint::parse(address).unwrap(), &Tls::default()).unwrap()
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn get(client: &Client, limit: Duration) -> Result<Response, HttpError> {
    client.request("GET", "/a?b=c", &[], None, Deadline::after(limit))
}

const SOON: Duration = Duration::from_millis(300);

/// The call must fail with `kind`; where that is a timeout, not before its deadline and not long after it.
fn fails(client: &Client, kind: HttpErrorKind) {
    let began = Instant::now();
    let limit = if kind == HttpErrorKind::TimedOut {
        SOON
    } else {
        GENEROUS
    };
    let error = get(client, limit).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(began.elapsed() < limit + GENEROUS);
    if kind == HttpErrorKind::TimedOut {
        assert!(began.elapsed() >= SOON);
    }
}

#[test]
fn an_answer_of_any_status_is_an_answer() {
    let client = server(|mut stream, head| {
        assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n")
            .unwrap();
    });
    let response = get(&client, GENEROUS).unwrap();
    assert_eq!(response.status, 403);
    assert_eq!(response.body, b"no\n");
}

#[test]
fn headers_and_bodies_are_sent() {
    let client = server(|mut stream, head| {
        assert!(head.starts_with("PUT /a HTTP/1.1\r\n"), "{head}");
        let lower = head.to_lowercase();
        assert!(lower.contains("\r\nx-token: secret\r\n"), "{head}");
        let mut body = vec![0; 4];
        if lower.contains("\r\ncontent-length: 4\r\n") {
            stream.read_exact(&mut body).unwrap();
        } else {
            assert!(lower.contains("\r\ncontent-length: 0\r\n"), "{head}");
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            .unwrap();
        stream.write_all(&body).unwrap();
    });
    let put = |body| {
        client.request(
            "PUT",
            "/a",
            &[("X-Token", "secret")],
            body,
            Deadline::after(GENEROUS),
        )
    };
    assert_eq!(put(Some(b"body")).unwrap().body, b"body");
    assert_eq!(put(None).unwrap().body, [0; 4]);
}

#[test]
fn a_redirect_is_reported_and_not_followed() {
    let client = server(|mut stream, _| {
        stream
            .write_all(
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            )
            .unwrap();
    });
    assert_eq!(get(&client, GENEROUS).unwrap().status, 302);
}

#[test]
fn nobody_listening_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    fails(&client(&address), HttpErrorKind::Unreachable);
    fails(
        &client("unix:///nonexistent/socket"),
        HttpErrorKind::Unreachable,
    );
}

#[test]
fn a_connection_that_breaks_is_unreachable() {
    // Closing with the request unread makes the kernel send a reset.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().for_each(drop));
    fails(&client(&address), HttpErrorKind::Unreachable);
    fails(
        &server(|mut stream, _| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab");
        }),
        HttpErrorKind::Unreachable,
    );
}

#[test]
fn a_server_that_hangs_ends_by_the_deadline() {
    fails(
        &server(|stream, _| std::mem::forget(stream)),
        HttpErrorKind::TimedOut,
    );
    // Nobody accepts, neither here nor behind a Unix socket whose queue is full.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    fails(&client(&address), HttpErrorKind::TimedOut);
}

#[test]
fn a_unix_socket_whose_queue_is_full_ends_by_the_deadline() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let address = SocketAddrUnix::new(&path).unwrap();
    let socket = |flags| {
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    };
    let listener = socket(SocketFlags::empty());
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let next = socket(SocketFlags::NONBLOCK);
        if rustix::net::connect(&next, &address).is_err() {
            break;
        }
        waiting.push(next);
    }
    fails(
        &client(&format!("unix://{}", path.display())),
        HttpErrorKind::TimedOut,
    );
}

#[test]
fn a_server_that_trickles_ends_by_the_deadline() {
    let trickle = |start: &'static [u8], piece: &'static [u8]| {
        server(move |mut stream, _| {
            thread::spawn(move || {
                let _ = stream.write_all(start);
                let pause = Duration::from_millis(20);
                while stream.write_all(piece).is_ok() {
                    thread::park_timeout(pause);
                }
            });
        })
    };
    for client in [
        // One byte of the body at a time; a head that never ends; interim answers for ever.
        trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        trickle(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        fails(&client, HttpErrorKind::TimedOut);
    }
}

#[test]
fn answers_that_are_no_http_or_too_large_are_bad() {
    let answers: [&[u8]; 4] = [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n: \r\n\r\n",
    ];
    for answer in answers {
        fails(
            &server(move |mut stream, _| stream.write_all(answer).unwrap()),
            HttpErrorKind::BadAnswer,
        );
    }
    let endless = |start: &'static [u8]| {
        server(move |mut stream, _| {
            let _ = stream.write_all(start);
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        })
    };
    fails(
        &endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"),
        HttpErrorKind::BadAnswer,
    );
    fails(
        &endless(b"HTTP/1.1 200 OK\r\nX: "),
        HttpErrorKind::BadAnswer,
    );
}

#[test]
fn a_server_behind_a_unix_socket_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream).to_lowercase();
        assert!(head.contains("\r\nhost: localhost\r\n"), "{head}");
        let mut body = vec![0; 300_000];
        stream.read_exact(&mut body).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwell")
            .unwrap();
    });
    let body = vec![1; 300_000];
    let response = client(&format!("unix://{}", path.display()))
        .request("PUT", "/", &[], Some(&body), Deadline::after(GENEROUS))
        .unwrap();
    assert_eq!(response.body, b"well");
}

#[test]
fn a_deadline_that_has_passed_makes_no_call() {
    let client = server(|_, _| panic!("called"));
    let error = get(&client, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::TimedOut);
}

#[test]
fn a_header_that_cannot_be_sent_is_named_without_its_value() {
    let client = client("http://127.0.0.1:1");
    let error = client
        .request(
            "GET",
            "/",
            &[("X-Token", "sec\nret")],
            None,
            Deadline::after(GENEROUS),
        )
        .unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::Local);
    assert!(!format!("{error} {error:?}").contains("sec"));
}

#[test]
fn certificates_that_cannot_be_read_are_a_local_fault() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for ca_file in [empty, dir.path().join("missing.pem")] {
        let endpoint = Endpoint::parse("https://127.0.0.1:1").unwrap();
        let error = Client::new(
            &endpoint,
            &Tls {
                ca_file: Some(ca_file),
            },
        )
        .unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Local);
    }
}

#[test]
fn names_are_looked_up_and_text_is_encoded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    fails(
        &client(&format!("http://localhost:{port}")),
        HttpErrorKind::Unreachable,
    );
    assert_eq!(
        encode("drainctl: a/b?c&d=ä~"),
        "drainctl%3A%20a%2Fb%3Fc%26d%3D%C3%A4~"
    );
}

#[test]
fn a_server_over_tls_has_to_prove_who_it_is() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let authority = |file: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let path = dir.path().join(file);
        std::fs::write(&path, issuer.pem()).unwrap();
        (issuer, path)
    };
    let (ours, our_file) = authority("ours.pem");
    let (_, other_file) = authority("other.pem");
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &ours)
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
    .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            read_head(&mut stream);
            // The client that does not trust us has gone.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let ask = |host: &str, ca_file: &std::path::Path| {
        let endpoint = Endpoint::parse(&format!("https://{host}:{port}")).unwrap();
        let tls = Tls {
            ca_file: Some(ca_file.to_owned()),
        };
        get(&Client::new(&endpoint, &tls).unwrap(), GENEROUS)
    };
    assert_eq!(ask("127.0.0.1", &our_file).unwrap().body, b"ok");
    for (host, ca_file) in [("127.0.0.1", &other_file), ("localhost", &our_file)] {
        let error = ask(host, ca_file).unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::BadAnswer, "{error}");
    }
}
