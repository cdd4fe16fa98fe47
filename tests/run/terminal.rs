//! Run by hand: a shell with job control on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{BINARY, Place, poll};

const CTRL_C: &str = "\u{3}";
const CTRL_Z: &str = "\u{1a}";

/// Somebody at a terminal.
struct Person {
    shell: Child,
    terminal: File,
    seen: Arc<Mutex<String>>,
    place: Place,
}

impl Person {
    fn new() -> Self {
        let place = Place::new();
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .open(name.to_str().unwrap())
                .unwrap()
        };
        let shell = Command::new("env")
            .args([
                "--default-signal=INT,QUIT",
                "setsid",
                "--ctty",
                "--wait",
                "bash",
                "--norc",
                "--noediting",
                "-i",
            ])
            .env("PS1", "ready> ")
            .env(
                "D",
                format!(
                    "{BINARY} run --state {} --name app --",
                    place.path().display()
                ),
            )
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let terminal = File::from(terminal);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (terminal.try_clone().unwrap(), seen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                text.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let person = Self {
            shell,
            terminal,
            seen,
            place,
        };
        person.sees("ready> ");
        person
    }

    fn types(&self, text: &str) {
        (&self.terminal).write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen; what came before it is forgotten.
    fn sees(&self, text: &str) -> String {
        poll(
            &format!(
                "{text:?} on the screen, behind {:?}",
                self.seen.lock().unwrap()
            ),
            || {
                let mut seen = self.seen.lock().unwrap();
                let at = seen.find(text);
                let before = seen[..at?].to_owned();
                seen.drain(..at? + text.len());
                Some(before)
            },
        )
    }

    /// Runs `command`, whose output ends with the shell's next prompt.
    fn says(&self, command: &str) -> String {
        self.types(&format!("{command}; echo end:$?\n"));
        // What is typed is shown too.
        self.sees("end:$?");
        let said = self.sees("end:");
        self.sees("ready> ");
        said
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // The shell is the child of setsid: it hangs up when its terminal does.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_program_reads_from_the_terminal_and_the_shell_after_it() {
    let person = Person::new();
    person.types("$D sh -c 'echo type; read x; echo got:$x'; echo rc:$?\n");
    person.sees("type\r\n");
    person.types("this\n");
    person.sees("got:this\r\n");
    person.sees("rc:0\r\n");
    person.sees("ready> ");
    assert!(person.says("echo alive").contains("alive"));
}

#[test]
fn ctrl_c_ends_the_program_and_tells_the_shell_so() {
    let person = Person::new();
    person.types("$D sh -c 'echo up; exec sleep 3600'\n");
    person.sees("up\r\n");
    person.types(CTRL_C);
    person.sees("ready> ");
    assert!(person.says("echo rc:$?").contains("rc:130"));
}

#[test]
fn ctrl_c_ends_the_script_that_runs_the_program() {
    let person = Person::new();
    person.types("bash -c '$D sh -c \"echo up; exec sleep 3600\"; echo went:on'\n");
    person.sees("up\r\n");
    person.types(CTRL_C);
    let seen = person.sees("ready> ");
    assert!(!seen.contains("went:on"), "{seen:?}");
}

#[test]
fn a_program_is_suspended_goes_on_in_front_and_ends() {
    let person = Person::new();
    person.types("$D sh -c 'echo up; read x; echo got:$x'; echo rc:$?\n");
    person.sees("up\r\n");
    person.types(CTRL_Z);
    person.sees("Stopped");
    person.sees("ready> ");
    person.types("fg\n");
    person.types("this\n");
    person.sees("got:this\r\n");
    person.sees("ready> ");
    person.types("$D sleep 3600\n");
    person.sees("3600\r\n");
    poll("its start", || {
        person
            .place
            .path()
            .join("app/run/drainctl/running")
            .exists()
            .then_some(())
    });
    person.types(CTRL_Z);
    person.sees("Stopped");
    person.types("fg\n");
    person.sees("fg\r\n");
    person.sees("3600\r\n");
    person.types(CTRL_C);
    person.sees("ready> ");
    assert!(person.says("echo rc:$?").contains("rc:130"));
}

#[test]
fn a_program_in_the_background_is_fetched_to_the_front() {
    let person = Person::new();
    person.types("$D sh -c 'read x; echo got:$x' &\n");
    person.sees("ready> ");
    // It wants to read, which only the foreground may.
    poll("it to be stopped", || {
        person.says("jobs").contains("Stopped").then_some(())
    });
    person.types("fg\n");
    person.sees("fg\r\n");
    person.types("this\n");
    person.sees("got:this\r\n");
    person.sees("ready> ");
    person.types("$D sleep 3600 &\n");
    person.sees("ready> ");
    poll("its start", || {
        person
            .place
            .path()
            .join("app/run/drainctl/running")
            .exists()
            .then_some(())
    });
    person.types("fg\n");
    person.sees("fg\r\n");
    person.sees("3600\r\n");
    person.types(CTRL_C);
    person.sees("ready> ");
    assert!(person.says("echo rc:$?").contains("rc:130"));
}

#[test]
fn a_job_that_is_killed_is_drained_first() {
    let person = Person::new();
    let (config, port) = (person.place.config(), person.place.port());
    let input = person.place.path().join("input").display().to_string();
    // Its input is nobody's terminal, and never ends.
    let server = format!(
        "mkfifo {input}; ${{D% --}} --config {} -- {BINARY} demo backend /nowhere {port} <>{input}",
        config.display()
    );
    person.types(&format!("{server} &\n"));
    person.sees("ready> ");
    let request = person.place.request(2);
    person.types("kill %1\n");
    let answer = crate::support::answer(request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert!(person.place.is_out());
}
