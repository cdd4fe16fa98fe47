//! The health file: nothing but files, so the directory is the real server.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use drainctl::pools::{Membership, PoolErrorKind, Rejoined};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conformance::Fixture;
use crate::support::{cx, pool, read};

const PATH: &str = "/srv/www/health";

struct HealthFile {
    dir: TempDir,
    remove: bool,
}

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    [true, false]
        .into_iter()
        .map(|remove| {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("srv/www")).unwrap();
            let fixture = HealthFile { dir, remove };
            if remove {
                fs::write(fixture.file(), "well\n").unwrap();
                fs::set_permissions(fixture.file(), fs::Permissions::from_mode(0o640)).unwrap();
            }
            Box::new(fixture) as Box<dyn Fixture>
        })
        .collect()
}

impl HealthFile {
    fn file(&self) -> PathBuf {
        self.dir.path().join("srv/www/health")
    }
}

impl Fixture for HealthFile {
    fn name(&self) -> &'static str {
        if self.remove { "remove" } else { "create" }
    }

    fn settings(&self) -> Value {
        json!({ "path": PATH, "leave": self.name(), "a key of a later version": 1 })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn state(&self) -> Value {
        let entries = fs::read_dir(self.file().parent().unwrap()).unwrap();
        let mut state: Vec<Value> = entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let meta = fs::metadata(&path).unwrap();
                json!([
                    path,
                    fs::read_to_string(&path).unwrap(),
                    meta.mode(),
                    meta.uid(),
                    meta.gid()
                ])
            })
            .collect();
        state.sort_by_key(Value::to_string);
        state.into()
    }

    fn take_out(&self) {
        if self.remove {
            fs::remove_file(self.file()).unwrap();
        } else {
            fs::write(self.file(), "out for repair\n").unwrap();
        }
    }

    fn put_back(&self) {
        if self.remove {
            fs::write(self.file(), "well\n").unwrap();
            fs::set_permissions(self.file(), fs::Permissions::from_mode(0o640)).unwrap();
        } else {
            fs::remove_file(self.file()).unwrap();
        }
    }

    fn is_taken_out(&self) -> bool {
        if self.remove {
            !self.file().exists()
        } else {
            fs::read_to_string(self.file()).unwrap() == "out for repair\n"
        }
    }

    fn mark_is_absence(&self) -> bool {
        self.remove
    }

    fn restart(&mut self) {}

    fn receipt_0_1(&self) -> Value {
        let meta = fs::metadata(self.dir.path()).unwrap();
        let text = if self.remove {
            fs::remove_file(self.file()).unwrap();
            include_str!("receipts/health-file-remove-0.1.json")
                .replace("\"UID\"", &meta.uid().to_string())
                .replace("\"GID\"", &meta.gid().to_string())
        } else {
            let text = include_str!("receipts/health-file-create-0.1.json").to_owned();
            let receipt: Value = serde_json::from_str(&text).unwrap();
            let mark = receipt["before"]["create"]["mark"].as_str().unwrap();
            fs::write(self.file(), format!("{mark}\n")).unwrap();
            text
        };
        serde_json::from_str(&text).unwrap()
    }
}

fn at(path: &str) -> (TempDir, PathBuf, Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(path.trim_start_matches('/'));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    (dir, file, json!({ "path": path, "leave": "remove" }))
}

#[test]
fn what_is_restored_is_the_same_file() {
    let (dir, file, settings) = at(PATH);
    // Not UTF-8, with bits that a changed owner would clear.
    fs::write(&file, [0, 255, 10]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o2751)).unwrap();
    let stood = fs::metadata(&file).unwrap();
    let pool = pool("health-file", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    pool.rejoin(&cx(dir.path()), &before).unwrap();
    assert_eq!(fs::read(&file).unwrap(), [0, 255, 10]);
    let stands = fs::metadata(&file).unwrap();
    assert_eq!(
        (stands.mode(), stands.uid(), stands.gid()),
        (stood.mode(), stood.uid(), stood.gid())
    );
}

#[test]
fn a_file_written_anew_meanwhile_is_left_alone() {
    let (dir, file, settings) = at(PATH);
    fs::write(&file, "well").unwrap();
    let pool = pool("health-file", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    fs::write(&file, "better").unwrap();
    let rejoined = pool.rejoin(&cx(dir.path()), &before).unwrap();
    assert!(matches!(rejoined, Rejoined::LeftAlone(_)), "{rejoined:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "better");
}

#[test]
fn only_a_regular_file_of_bearable_size_is_taken() {
    let (dir, file, settings) = at(PATH);
    let target = dir.path().join("target");
    fs::write(&target, "precious").unwrap();
    let pool = pool("health-file", settings);
    let refused = || {
        let error = pool.prepare(&cx(dir.path())).unwrap_err();
        assert_eq!(error.kind(), PoolErrorKind::Local);
        assert!(error.to_string().contains(PATH), "{error}");
    };
    symlink(&target, &file).unwrap();
    refused();
    assert_eq!(
        pool.status(&cx(dir.path())).unwrap_err().kind(),
        PoolErrorKind::Local
    );
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused();
    fs::remove_dir(&file).unwrap();
    fs::write(&file, vec![b'x'; (64 << 10) + 1]).unwrap();
    refused();
    fs::write(&file, vec![b'x'; 64 << 10]).unwrap();
    pool.prepare(&cx(dir.path())).unwrap();
    // A pipe that nobody writes to must not hold anything up.
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    refused();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_planted_link_under_the_temporary_name_is_not_followed() {
    let (dir, file, settings) = at(PATH);
    let target = dir.path().join("target");
    fs::write(&target, "precious").unwrap();
    fs::write(&file, "well").unwrap();
    let pool = pool("health-file", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    symlink(&target, file.with_file_name(".health.drainctl")).unwrap();
    pool.rejoin(&cx(dir.path()), &before).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert_eq!(fs::read_to_string(&file).unwrap(), "well");
}

#[test]
fn a_path_that_cannot_be_looked_at_is_not_out() {
    let (dir, file, settings) = at(PATH);
    // A file where the path has a folder.
    fs::remove_dir(file.parent().unwrap()).unwrap();
    fs::write(file.parent().unwrap(), "").unwrap();
    let pool = pool("health-file", settings);
    assert_eq!(
        pool.status(&cx(dir.path())).unwrap_err().kind(),
        PoolErrorKind::Local
    );
}

#[test]
fn the_default_creates_a_file_that_is_gone_at_a_reboot() {
    let settings: Value = serde_json::from_str(&read("health-file", None, "")).unwrap();
    assert_eq!(
        settings,
        json!({ "path": "/run/drainctl/draining", "leave": "create" })
    );
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("health-file", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    let meta = fs::metadata(dir.path().join("run/drainctl/draining")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o644);
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::Out);
}

#[test]
fn settings_are_checked_with_their_lines() {
    let read = |text: &str| read("health-file", None, text);
    assert_eq!(
        read("path = \"/a/b\""),
        r#"{"leave":"remove","path":"/a/b"}"#
    );
    assert_eq!(
        read("leave = \"remove\""),
        "text:1: path: has to name the file to remove"
    );
    for path in ["a/b", "/", "/a/.."] {
        assert_eq!(
            read(&format!("\npath = \"{path}\"")),
            "text:2: path: must be the absolute path of a file"
        );
    }
}
