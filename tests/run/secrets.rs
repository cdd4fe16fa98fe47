//! Tokens go to the pools and nowhere else: not to the terminal, the state, the report, the receipts, or a process list. Every server here repeats
//! what it was sent.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;

use crate::support::{Place, answer, poll, send};

/// One a place: which of them comes back is seen.
const SECRETS: [&str; 5] = [
    "5ec4e701-consul-file",
    "5ec4e702-consul-environment",
    "5ec4e703-header",
    "5ec4e704-aws-key",
    "5ec4e705-aws-session",
];

/// A server that answers each request with this status and the request itself; as JSON, and escaped, in one of its strings.
fn parrot(status: u16) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that is gone needs no answer.
            let _ = repeat(&stream.unwrap(), status);
        }
    });
    address
}

fn repeat(mut stream: &TcpStream, status: u16) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
    reader.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    let body = serde_json::json!({ "v": head, "Code": head }).to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} {}\r\nContent-Length: {length}\r\n\r\n{body}",
        head.lines().last().unwrap_or_default()
    )
}

fn write(file: &Path, text: &str) -> String {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

fn config(place: &Place, secrets: &Path) -> String {
    let [file, _, header, key, session] = SECRETS;
    let file = write(&secrets.join("consul"), file);
    let header = write(&secrets.join("header"), &format!("Bearer {header}"));
    let aws = format!(
        "[default]\naws_access_key_id = AKID\naws_secret_access_key = {key}\naws_session_token = {session}\n"
    );
    let aws = write(&secrets.join("aws"), &aws);
    let group =
        "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/0123456789abcdef";
    let mut text = format!(
        "[settle]\nmin = \"0s\"\nquiet = \"0s\"\nmax = \"1s\"\n[pool.health-file]\npath = \"{}\"\nleave = \"create\"\n\
         [pool.firewall]\nstand_in_for = []\n",
        place.path().join("out").display()
    );
    for (n, status) in [200, 403, 500].into_iter().enumerate() {
        let address = parrot(status);
        text += &format!(
            "[pool.file-{n}]\ntype = \"consul\"\nlimit = \"2s\"\naddress = \"{address}\"\ntoken_file = \"{file}\"\n\
             [pool.environment-{n}]\ntype = \"consul\"\nlimit = \"2s\"\naddress = \"{address}\"\ntoken_env = \"A_TOKEN\"\n\
             [pool.http-{n}]\ntype = \"http\"\nlimit = \"2s\"\naddress = \"{address}\"\nheader_files = {{ Authorization = \"{header}\" }}\n\
             status = \"GET /\"\nleave = \"PUT /\"\nrejoin = \"PUT /?before={{before}}\"\npointer = \"/v\"\nout = [\"x\"]\n\
             [pool.aws-{n}]\ntype = \"aws-target-group\"\nlimit = \"2s\"\nendpoint = \"{address}\"\ntarget_groups = [\"{group}\"]\n\
             targets = [\"i-0123456789abcdef0\"]\ncredentials_file = \"{aws}\"\n"
        );
    }
    text
}

/// Where a secret stands among all that lies below `folder`.
fn search(folder: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found, files);
        } else if let Ok(bytes) = fs::read(&path) {
            *files += 1;
            told(&path.display().to_string(), &bytes, found);
        }
    }
}

fn told(place: &str, bytes: &[u8], found: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    let secrets = SECRETS.into_iter().filter(|secret| text.contains(secret));
    found.extend(secrets.map(|secret| format!("{secret} in {place}")));
}

/// The command lines of all processes.
fn process_list(found: &mut Vec<String>) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let file = entry.path().join("cmdline");
        if let Ok(line) = fs::read(&file) {
            told(&file.display().to_string(), &line, found);
        }
    }
}

#[test]
fn no_secret_is_told_anywhere() {
    let place = Place::new();
    let secrets = tempfile::tempdir().unwrap();
    fs::write(place.config(), config(&place, secrets.path())).unwrap();
    let output = place.path().join("output");
    let log = fs::File::create(&output).unwrap();
    let mut keeper = place
        .server(&[])
        .env("A_TOKEN", SECRETS[1])
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    drop(answer(place.request(0)));
    send(keeper.id(), Signal::TERM);
    let mut found = Vec::new();
    poll("the end of the drain", || {
        process_list(&mut found);
        keeper.try_wait().unwrap()
    });
    let said = fs::read_to_string(&output).unwrap();
    // They were all tried, and answered.
    for pool in ["file", "environment", "http", "aws"] {
        for n in 0..3 {
            assert!(said.contains(&format!("{pool}-{n}")), "{pool}-{n}: {said}");
        }
    }
    assert!(
        said.contains("[token]") && said.contains("[secret]"),
        "{said}"
    );
    let mut files = 0;
    search(place.path(), &mut found, &mut files);
    assert!(files > 3, "the report and the receipts are there");
    assert!(found.is_empty(), "{found:#?}");
}
