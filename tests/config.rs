//! Configs as directories: `tests/config/NN-name/` holds what lies under `/`, `expected` what is said of it. `UPDATE_GOLDEN=1` writes
//! `expected` anew. A file `modes` sets what git does not keep: a line `mode path` each.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends there")]

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use drainctl::config::{self, Settings};
use drainctl::world::Root;

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            // Not a copy of the mode: the umask of whoever checked this out must not decide.
            fs::write(&to, fs::read(entry.path()).unwrap()).unwrap();
            fs::set_permissions(&to, Permissions::from_mode(0o644)).unwrap();
        }
    }
}

fn shown(settings: &Settings) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "units {:?}", settings.units);
    let _ = writeln!(text, "{:?}", settings.deadline);
    let _ = writeln!(text, "{:?}", settings.settle);
    let _ = writeln!(text, "{:?}", settings.watch);
    let _ = writeln!(text, "{:?}", settings.rejoin);
    let _ = writeln!(text, "{:?}", settings.guard);
    let _ = writeln!(text, "{:?}", settings.report);
    for pool in &settings.pools {
        let _ = writeln!(
            text,
            "pool {} type {} limit {:?} {}",
            pool.name, pool.kind, pool.limit, pool.settings
        );
    }
    if let Some(fleet) = &settings.fleet {
        let _ = writeln!(text, "{fleet:?}");
    }
    for one in &settings.stand_ins {
        let _ = writeln!(
            text,
            "stand-in {} for {:?} type {} {}",
            one.pool.name, one.covers, one.pool.kind, one.pool.settings
        );
    }
    text
}

/// What `load` says and what a drain would go by.
fn told(case: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("host");
    copy(case, &host);
    if let Ok(modes) = fs::read_to_string(case.join("modes")) {
        for line in modes.lines() {
            let (mode, path) = line.split_once(' ').unwrap();
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(host.join(path), Permissions::from_mode(mode)).unwrap();
        }
    }
    let root = Root::at(host);
    let mut text = String::from("== load\n");
    match config::load(&root) {
        Ok(loaded) => text.push_str(&shown(&loaded.settings)),
        Err(faults) => {
            let _ = writeln!(text, "{faults}");
        }
    }
    let (settings, said) = config::load_or_last_good(&root);
    let _ = writeln!(text, "\n== drain");
    for line in said {
        // The faults are the same.
        if !text.contains(&line) {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push_str(&shown(&settings));
    text
}

#[test]
fn every_case_says_what_is_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut cases: Vec<PathBuf> = fs::read_dir(cases)
        .unwrap()
        .map(|case| case.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 12, "only {} cases", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let said = told(&case);
        assert!(
            !said.contains("hunter2"),
            "a secret is shown: {}",
            case.display()
        );
        let golden = case.join("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, said).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            let _ = writeln!(
                wrong,
                "{}:\n--- expected\n{expected}\n--- said\n{said}",
                case.display()
            );
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}UPDATE_GOLDEN=1 takes what is said"
    );
}
