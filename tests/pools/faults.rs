//! What every type of pool that asks a server makes of one that misbehaves: an error of its kind, by the deadline, without a secret; and
//! nothing is taken for being out.

use std::path::Path;
use std::time::{Duration, Instant};

use drainctl::pools::{Context, KINDS, Membership, PoolErrorKind};
use drainctl::world::{Deadline, Root};
use serde_json::{Value, json};

use crate::bad_server::{Answer, BadServer};
use crate::support::{GENEROUS, eventually, pool, said};

/// What must never be told.
const SECRET: &str = "5ec4e700-dead-4000-8000-00000000beef";
const GROUP: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/0123456789abcdef";

/// A pool in front of a server at `ADDRESS`; `/token`, `/header` and `/aws` hold the secret.
struct Remote {
    settings: Value,
    before: Value,
    /// Lines of text instead of HTTP: all that is HTTP is garbage then.
    is_lines: bool,
}

fn http(settings: Value, before: Value) -> Remote {
    Remote {
        settings,
        before,
        is_lines: false,
    }
}

fn remotes(kind: &str) -> Option<Vec<Remote>> {
    let remotes = match kind {
        "aws-target-group" => {
            let target = json!({ "id": "i-0123456789abcdef0", "port": 8080 });
            let before = json!({ "registered": { GROUP: [target] } });
            vec![
                http(
                    json!({ "endpoint": "ADDRESS", "target_groups": [GROUP], "targets": ["i-0123456789abcdef0"], "credentials_file": "/aws" }),
                    before.clone(),
                ),
                // The instance's own metadata, which knows the role.
                http(
                    json!({ "metadata": "ADDRESS", "target_groups": [GROUP] }),
                    before,
                ),
            ]
        }
        "consul" => {
            let services =
                json!({ "app-1": { "name": "app", "passing": true, "maintenance": null } });
            let mark = "drainctl: draining this host (x, 1)";
            ["node", "services"]
                .map(|scope| {
                    let names = if scope == "node" {
                        json!([])
                    } else {
                        json!(["app"])
                    };
                    http(
                        json!({ "address": "ADDRESS", "services": names, "token_file": "/token" }),
                        json!({ "mark": mark, "services": services }),
                    )
                })
                .into()
        }
        "envoy" => vec![http(
            json!({ "address": "ADDRESS" }),
            json!({ "failing": false }),
        )],
        "haproxy" => vec![Remote {
            settings: json!({ "socket": "ADDRESS", "servers": ["web/app1"] }),
            before: json!({ "leave": "drain", "sockets": { "ADDRESS": { "web/app1": { "admin": 0, "up": true } } } }),
            is_lines: true,
        }],
        "http" => {
            let settings = json!({
                "address": "ADDRESS", "header_files": { "Authorization": "/header" },
                "status": "GET /", "leave": "PUT /", "rejoin": "PUT /", "pointer": "/v", "in": [1], "out": [0],
            });
            let mut statuses = settings.clone();
            statuses["pointer"] = Value::Null;
            (statuses["in"], statuses["out"]) = (json!([204]), json!([410]));
            [settings, statuses]
                .map(|settings| http(settings, json!({ "value": "1", "out": false })))
                .into()
        }
        // No server that could misbehave; what their own tools may do is in their own tests.
        "command" | "firewall" | "health-file" => Vec::new(),
        _ => return None,
    };
    Some(remotes)
}

/// Whether pools of that type ask a server.
pub(crate) fn has_server(kind: &str) -> bool {
    remotes(kind).is_some_and(|remotes| !remotes.is_empty())
}

#[test]
fn every_misbehaviour_is_an_error_of_its_kind_by_the_deadline_without_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("token", format!(" {SECRET}\n")),
        ("header", format!("Bearer {SECRET}")),
        (
            "aws",
            format!(
                "[default]\naws_access_key_id = AKID\naws_secret_access_key = {SECRET}\naws_session_token = {SECRET}\n"
            ),
        ),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    let mut wrong = Vec::new();
    let mut matrix = String::new();
    for kind in KINDS.iter().map(|kind| kind.name) {
        let remotes = remotes(kind).ok_or(format!("nobody says how {kind} reaches its server"));
        for remote in remotes.unwrap() {
            let tried = misbehave(kind, &remote, dir.path(), &mut wrong);
            let of_all: &[&str] = if remote.is_lines {
                // Nothing of HTTP, and no TLS.
                FAULTS.strip_suffix(&["wrong certificate"]).unwrap()
            } else {
                FAULTS
            };
            assert_eq!(tried, of_all, "{kind}: each of them");
            matrix += &format!("{kind}: {}\n", tried.join(", "));
        }
    }
    println!("{matrix}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a server may do, each tried with each call of each pool that has a server.
const FAULTS: &[&str] = &[
    "closes",
    "hangs",
    "trickles bytes",
    "resets",
    "garbage",
    "floods",
    "redirects",
    "agrees with anything",
    "403",
    "500",
    "429",
    "wrong certificate",
];

/// The faults that were met.
fn misbehave(
    kind: &str,
    remote: &Remote,
    dir: &Path,
    wrong: &mut Vec<String>,
) -> Vec<&'static str> {
    use PoolErrorKind::{BadAnswer, Refused, TimedOut, Unreachable};
    let trap = BadServer::start(Answer::Echo(200));
    let garbage = Answer::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec());
    let status = |kind| if remote.is_lines { BadAnswer } else { kind };
    let mut tried = Vec::new();
    for (answer, wanted) in [
        (Answer::Raw(Vec::new()), Unreachable),
        (Answer::Hang, TimedOut),
        (Answer::Trickle, TimedOut),
        (Answer::Reset, Unreachable),
        (garbage, BadAnswer),
        (Answer::Flood, BadAnswer),
        (Answer::Redirect(trap.address().to_owned()), BadAnswer),
        (Answer::Echo(200), BadAnswer),
        (Answer::Echo(403), status(Refused)),
        (Answer::Echo(500), status(Unreachable)),
        (Answer::Echo(429), status(Unreachable)),
    ] {
        let server = BadServer::start(answer.clone());
        let fault = FAULTS[tried.len()];
        let what = format!("{kind}: {fault}");
        wrong.extend(unlike(kind, remote, &server, wanted, dir).map(|is| format!("{what}: {is}")));
        // It is counted after the answer.
        eventually(&format!("{what} was met by each verb"), || {
            server.asked() >= 4
        });
        assert_eq!(trap.asked(), 0, "{what} was followed");
        tried.push(fault);
    }
    if !remote.is_lines {
        let server = BadServer::impostor();
        let what = format!("{kind}: an impostor");
        wrong.extend(
            unlike(kind, remote, &server, BadAnswer, dir).map(|is| format!("{what}: {is}")),
        );
        assert_eq!(server.asked(), 0, "{what} was told something");
        tried.push(FAULTS[tried.len()]);
    }
    tried
}

/// The calls that do not fail with `wanted`. `health` may succeed: some pools check nothing.
fn unlike(
    kind: &str,
    remote: &Remote,
    server: &BadServer,
    wanted: PoolErrorKind,
    dir: &Path,
) -> impl Iterator<Item = String> {
    let address = if remote.is_lines {
        server.address().trim_start_matches("http://")
    } else {
        server.address()
    };
    let at = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace("ADDRESS", address)).unwrap()
    };
    let (pool, before) = (pool(kind, at(&remote.settings)), at(&remote.before));
    let limit = if wanted == PoolErrorKind::TimedOut {
        Duration::from_millis(200)
    } else {
        GENEROUS
    };
    let cx = || Context {
        deadline: Deadline::after(limit),
        root: Root::at(dir),
    };
    let began = Instant::now();
    let must = [
        (
            "prepare",
            pool.prepare(&cx()).map(|before| before.to_string()),
        ),
        ("leave", pool.leave(&cx(), &before).map(|()| String::new())),
        ("status", pool.status(&cx()).map(|is| format!("{is:?}"))),
        (
            "rejoin",
            pool.rejoin(&cx(), &before).map(|done| format!("{done:?}")),
        ),
    ];
    let may = [(
        "health",
        pool.health(&cx(), &before).map(|is| format!("{is:?}")),
    )];
    let is_fine = server.is_fine();
    assert!(began.elapsed() < 5 * limit + GENEROUS);
    assert_ne!(pool.status(&cx()).ok(), Some(Membership::Out));
    must.into_iter()
        .chain(may)
        .filter_map(move |(verb, answer)| match answer {
            // Whether an agreement holds is for the status to say.
            Ok(_) if verb == "health" || verb == "leave" && is_fine => None,
            Ok(is) => Some(format!("{verb} takes it for an answer: {is}")),
            Err(error) => {
                let told = said(&error, SECRET);
                assert!(error.to_string().len() < 1000, "{told}");
                (error.kind() != wanted).then(|| format!("{verb}: {:?}: {error}", error.kind()))
            }
        })
}
