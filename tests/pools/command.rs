//! The command: a program that keeps a balancer of its own, and programs that misbehave.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use drainctl::pools::{Context, Health, Membership, Pool, PoolError, PoolErrorKind, Rejoined};
use drainctl::world::{Deadline, Root};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conformance::Fixture;
use crate::support::{GENEROUS, cx, pool, read};

struct Leaver {
    dir: TempDir,
}

/// A script and its program, a shell: a script of its own right could not be started while a child of another test's, just forked,
/// still has it open.
fn program(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(script(&dir), text).unwrap();
    symlink("/bin/sh", dir.path().join("leaver")).unwrap();
    dir
}

fn script(dir: &TempDir) -> String {
    format!("{}/script", dir.path().display())
}

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    let leaver = Leaver {
        dir: program(include_str!("leaver.sh")),
    };
    leaver.write("in");
    vec![Box::new(leaver)]
}

impl Leaver {
    fn receipt(&self) -> Value {
        let text = include_str!("receipts/command-0.1.json");
        serde_json::from_str(&text.replace("SCRIPT", &script(&self.dir))).unwrap()
    }

    fn write(&self, state: &str) {
        fs::write(self.dir.path().join("script.state"), format!("{state}\n")).unwrap();
    }
}

impl Fixture for Leaver {
    fn name(&self) -> &'static str {
        "a script"
    }

    fn settings(&self) -> Value {
        let mut receipt = self.receipt();
        receipt["settings"]["a key of a later version"] = 1.into();
        receipt["settings"].take()
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn state(&self) -> Value {
        fs::read_to_string(self.dir.path().join("script.state"))
            .unwrap()
            .into()
    }

    fn take_out(&self) {
        self.write("new disk");
    }

    fn put_back(&self) {
        self.write("in");
    }

    fn is_taken_out(&self) -> bool {
        self.state() == "new disk\n"
    }

    fn restart(&mut self) {}

    fn receipt_0_1(&self) -> Value {
        self.write("ours");
        self.receipt()
    }
}

/// Each operation once on a program with this text; `None` where it did not fail.
fn errors(text: &str, limit: Duration) -> [Option<PoolError>; 5] {
    let dir = program(text);
    let pool: Box<dyn Pool> = pool("command", json!({ "argv": ["/leaver", script(&dir)] }));
    let cx = || Context {
        deadline: Deadline::after(limit),
        root: Root::at(dir.path()),
    };
    let before = json!({ "a": 1 });
    [
        pool.prepare(&cx()).err(),
        pool.leave(&cx(), &before).err(),
        pool.status(&cx()).err(),
        pool.health(&cx(), &before).err(),
        pool.rejoin(&cx(), &before).err(),
    ]
}

#[test]
fn every_failure_is_an_error_of_its_kind() {
    for (text, kind, said) in [
        (
            "echo no such host >&2; exit 3",
            PoolErrorKind::Local,
            "exit status: 3: no such host",
        ),
        (
            r#"echo '{"error":"no right to do it","kind":"refused"}'; exit 1"#,
            PoolErrorKind::Refused,
            "no right to do it",
        ),
        (
            r#"echo '{"error":"gone"}'; exit 1"#,
            PoolErrorKind::Local,
            "gone",
        ),
        (
            r#"echo '{"error":"x","kind":"not-member"}'; exit 1"#,
            PoolErrorKind::NotMember,
            "exit status: 1: x",
        ),
        ("kill -9 $$", PoolErrorKind::Local, "signal: 9"),
        ("cat /dev/zero", PoolErrorKind::BadAnswer, "wrote more than"),
    ] {
        for error in errors(text, GENEROUS) {
            let error = error.unwrap();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.to_string().starts_with("/leaver: "), "{error}");
        }
    }
}

#[test]
fn an_answer_that_is_none_is_no_membership() {
    for text in [
        "",
        "echo out",
        "echo '{}'",
        r#"echo '{"membership":"OUT"}'"#,
        r#"echo '{"membership":"out"} and more'"#,
        "printf '\\377'",
    ] {
        let [prepare, _, status, health, _] = errors(text, GENEROUS);
        for error in [status, health].into_iter().flatten().chain(prepare) {
            assert_eq!(error.kind(), PoolErrorKind::BadAnswer, "{text}: {error}");
        }
        assert!(errors(text, GENEROUS)[2].is_some(), "{text}");
    }
    let [prepare, ..] = errors("printf '\"%070000d\"' 0", GENEROUS);
    assert_eq!(prepare.unwrap().kind(), PoolErrorKind::BadAnswer);
    // Deep enough to exhaust a stack that follows it.
    let [prepare, ..] = errors("printf '%060000d' 0 | tr 0 '['", GENEROUS);
    assert_eq!(prepare.unwrap().kind(), PoolErrorKind::BadAnswer);
}

#[test]
fn one_that_hangs_is_ended_by_the_deadline() {
    let began = Instant::now();
    for error in errors("sleep 1000 & sleep 1000", Duration::from_millis(100)) {
        assert_eq!(error.unwrap().kind(), PoolErrorKind::TimedOut);
    }
    assert!(began.elapsed() < GENEROUS);
}

#[test]
fn what_fails_is_told_and_cannot_drive_the_terminal() {
    let dir = program("printf '%s' '{\"membership\":\"out\",\"failing\":\"a\\u001b[2Jb\"}'");
    let pool = pool("command", json!({ "argv": ["/leaver", script(&dir)] }));
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::Out);
    assert_eq!(
        pool.health(&cx(dir.path()), &json!(null)).unwrap(),
        Health::Failing("a?[2Jb".to_owned())
    );
    assert_eq!(
        pool.rejoin(&cx(dir.path()), &json!(null)).unwrap(),
        Rejoined::Restored
    );
}

#[test]
fn settings_are_checked_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leaver");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::at(dir.path());
    let read = |text: &str| read("command", Some(&root), text);
    assert_eq!(
        read("argv = [\"/leaver\", \"x\"]"),
        r#"{"argv":["/leaver","x"]}"#
    );
    for text in ["", "argv = []", "argv = [\"leaver\"]"] {
        assert_eq!(
            read(text),
            "text:1: argv: must begin with the absolute path of a program"
        );
    }
    assert!(read("argv = [\"/missing\"]").contains("No such file"));
    for (mode, what) in [
        (0o644, "is no program"),
        (0o777, "can be changed by every user"),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let said = read("\nargv = [\"/leaver\"]");
        assert!(
            said.starts_with("text:2: argv: ") && said.contains(what),
            "{said}"
        );
    }
}
