//! What a program and those who run it see of `drainctl run`: nothing.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{BINARY, Kept, Place, child, poll};

fn shell(place: &Place, script: &str) -> Command {
    place.run(&[], &["sh", "-c", script])
}

#[test]
fn the_exit_status_is_the_programs() {
    let place = Place::new();
    for code in [0, 7, 255] {
        let status = shell(&place, &format!("exit {code}")).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
    for signal in [Signal::KILL, Signal::TERM, Signal::USR1, Signal::SEGV] {
        let number = signal.as_raw();
        let mut kept = Kept::start(shell(&place, &format!("kill -{number} $$")));
        let end = kept.end();
        assert_eq!(end.signal(), Some(number), "{end:?}");
    }
}

/// As supervisord does, which otherwise looks once a second only.
#[test]
fn who_looks_when_its_pipes_are_closed_finds_it_ended() {
    let place = Place::new();
    for round in 0..50 {
        let mut run = place.run(&[], &["true"]);
        let mut run = run.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        run.stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let ended = run.try_wait().unwrap();
        assert!(
            ended.is_some_and(|status| status.success()),
            "round {round}: {ended:?} {said}"
        );
    }
}

#[test]
fn a_program_that_cannot_be_started_is_said_as_shells_do() {
    let place = Place::new();
    let ends = |file: &str| place.run(&[], &[file]).output().unwrap();
    let missing = ends("/nowhere/at-all");
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at-all"));
    assert_eq!(ends("/etc/passwd").status.code(), Some(126));
    let state = place.path().join("app/run/drainctl/running");
    assert!(!state.exists(), "it would be looked for at the next start");
}

#[test]
fn wrong_usage_and_faults_in_its_config_are_told_at_the_start() {
    let place = Place::new();
    let ends = |options: &[&str]| place.run(options, &["true"]).output().unwrap();
    assert_eq!(ends(&["--drain-on", "KILL"]).status.code(), Some(2));
    let typo = ends(&["--servce", "web"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&typo.stderr).contains("--service"));
    let missing = ends(&["--config", "/nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere.toml"));
    fs::write(place.config(), "[pool.consul]\nadress = \"x\"\n").unwrap();
    let typo = ends(&["--config", &place.config().display().to_string()]);
    assert!(String::from_utf8_lossy(&typo.stderr).contains("config.toml:2"));
}

#[test]
fn signals_are_passed_on() {
    let place = Place::new();
    let script =
        "for s in HUP INT QUIT USR1 USR2 WINCH RTMIN; do trap \"echo $s\" $s; done; echo up
                  while :; do sleep 0.05; done";
    let mut kept = Kept::start(place.run(&["--drain-on", "TERM"], &["bash", "-c", script]));
    assert_eq!(kept.line(), "up");
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::WINCH, "WINCH"),
    ] {
        kept.signal(signal);
        assert_eq!(kept.line(), name);
    }
    let realtime = Command::new("bash")
        .args(["-c", &format!("kill -RTMIN {}", kept.pid())])
        .status();
    assert!(realtime.unwrap().success());
    assert_eq!(kept.line(), "RTMIN");
    // Nothing listens, so nothing is waited for.
    kept.signal(Signal::TERM);
    assert_eq!(kept.end_signal(), Some(15));
}

#[test]
fn what_the_program_ignores_and_blocks_is_left_as_it_was() {
    let place = Place::new();
    let script = format!(
        "trap '' HUP; exec {BINARY} run --state {} -- cat /proc/self/status",
        place.path().display()
    );
    let output = Command::new("env")
        .args(["--default-signal=INT,QUIT", "bash", "-c", &script])
        .output()
        .unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_ascii_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(field("SigBlk:"), 0);
    assert_eq!(field("SigIgn:") & 0xffff, 1, "only HUP");
}

#[test]
fn listening_sockets_and_their_variables_are_the_programs_alone() {
    let place = Place::new();
    let file = place.config();
    // What systemd does for a service that it activates: LISTEN_PID names the process that it starts.
    let script = format!(
        "exec 3<{}; LISTEN_FDS=1 LISTEN_PID=$$ WATCHDOG_PID=1 NOTIFY_SOCKET=/x exec {BINARY} run --state {} -- \
         sh -c 'test $LISTEN_PID = $$ && test $WATCHDOG_PID = 1 && test $NOTIFY_SOCKET = /x && head -n1 <&3; read wait; exit 5'",
        file.display(),
        place.path().display(),
    );
    let mut run = Command::new("bash");
    run.args(["-c", &script]);
    let mut kept = Kept::start(run);
    assert_eq!(kept.line(), "[settle]");
    let holds = |pid: u32| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file))
    };
    assert!(holds(child(kept.pid(), "sh")));
    poll("the keeper to let go", || {
        (!holds(kept.pid())).then_some(())
    });
    assert!(!holds(child(kept.pid(), "drainctl-guard")));
    // The program's input is a pipe that the keeper does not hold either: its end is the program's end of input.
    drop(kept.child.stdin.take());
    assert_eq!(kept.end().code(), Some(5));
}

#[test]
fn arguments_are_passed_as_they_are() {
    let place = Place::new();
    let arguments = ["printf", "%s|", "--state", "--", "", "a b", "-x", "--help"];
    let output = place.run(&[], &arguments).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "--state|--||a b|-x|--help|");
}

#[test]
fn what_stays_beside_the_program_sleeps_and_is_small() {
    let place = Place::new();
    let mut kept = Kept::start(shell(&place, "echo up; read wait"));
    assert_eq!(kept.line(), "up");
    let guard = child(kept.pid(), "drainctl-guard");
    let mut own = 0;
    for pid in [kept.pid(), guard] {
        let at = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let kib = |text: &str, name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let number = line.split_ascii_whitespace().nth(1).unwrap();
            number.parse().unwrap()
        };
        poll("its memory to be given back", || {
            let status = at("status");
            // What a file holds is larger in a build that was not optimised.
            (kib(&status, "RssFile:") < 2 * kib(&status, "RssAnon:")).then_some(())
        });
        assert_eq!(kib(&at("status"), "Threads:"), 1);
        // What both hold is counted half in each.
        own += kib(&at("smaps_rollup"), "Pss_Anon:");
        // rt_sigtimedwait or ppoll, without a time: neither wakes by itself.
        let call = poll("it to sleep", || {
            let call = at("syscall");
            call.starts_with(|c: char| c.is_ascii_digit())
                .then_some(call)
        });
        let call: Vec<&str> = call.split_ascii_whitespace().collect();
        if cfg!(target_arch = "x86_64") {
            let waits = ["128", "271"].contains(&call[0]) && call[3] == "0x0";
            assert!(waits, "{call:?}");
        }
    }
    assert!(own < 2048, "{own} KiB of their own");
}
