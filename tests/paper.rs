//! Man pages and completions are made from the command line itself and the config's defaults, and lie in `dist/`, from where `install`
//! takes them. `UPDATE_GOLDEN=1 cargo test --test paper` writes them anew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::{CommandFactory, Parser};
use clap_complete::{Shell, generate};
use drainctl::cli::Opts;
use drainctl::config::DEFAULTS;
use drainctl::paper::PAPER;

/// What is made, by its path below `dist/`.
fn made(path: &str) -> String {
    let shell = |shell| {
        let mut bytes = Vec::new();
        generate(shell, &mut visible(Opts::command()), "drainctl", &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n") + "\n"
    };
    match path.rsplit('/').next().unwrap() {
        "drainctl.8" => page(),
        "drainctl.toml.5" => settings_page(),
        "drainctl" => shell(Shell::Bash),
        "_drainctl" => shell(Shell::Zsh),
        "drainctl.fish" => shell(Shell::Fish),
        other => panic!("nobody makes {other}"),
    }
}

/// Without the parts that verbs keep to themselves, which completions would name.
fn visible(mut command: clap::Command) -> clap::Command {
    let hides = |verb: &clap::Command| {
        verb.get_subcommands().any(clap::Command::is_hide_set)
            || verb.get_arguments().any(clap::Arg::is_hide_set)
    };
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|verb| hides(verb))
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |verb| {
            let name: &'static str = verb.get_name().to_owned().leak();
            let about = verb.get_about().cloned().unwrap_or_default();
            clap::Command::new(name).about(about).args(
                verb.get_arguments()
                    .filter(|argument| !argument.is_hide_set()),
            )
        });
    }
    command
}

#[test]
fn what_lies_in_dist_is_what_would_be_made() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    let mut old = Vec::new();
    for (path, text) in PAPER {
        let made = made(path);
        let file = dist.join(path);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &made).unwrap();
        } else if *text != made {
            old.push(*path);
        }
    }
    assert!(
        old.is_empty(),
        "{old:?}: `UPDATE_GOLDEN=1 cargo test --test paper` makes them anew"
    );
}

/// Text that roff takes as it is.
fn plain(text: &str) -> String {
    text.lines()
        .map(|line| {
            let line = line
                .replace('\\', "\\e")
                .replace('-', "\\-")
                .replace('\'', "\\(aq");
            if line.starts_with('.') {
                format!("\\&{line}")
            } else {
                line
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn head(name: &str, section: u8, what: &str) -> String {
    format!(
        ".\\\" Made by `UPDATE_GOLDEN=1 cargo test --test paper`.\n.TH {name} {section} \"\" \"drainctl {}\" \"drainctl\"\n.SH NAME\n{what}\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn page() -> String {
    let mut root = Opts::command();
    root.build();
    let about = root.get_about().unwrap().to_string();
    let mut page = head(
        "DRAINCTL",
        8,
        "drainctl \\- drains a host before systemd stops it",
    );
    page.push_str(".SH SYNOPSIS\n.B drainctl\n.I COMMAND\n[\\fIOPTION\\fR]...\n");
    page.push_str(&format!(".SH DESCRIPTION\n{}\n", plain(&about)));
    page.push_str(
        ".PP\nIts unit \\fBdrain\\-connections.service\\fR is stopped before supervisord or another target unit, and its stop is \
         \\fBdrainctl drain\\fR: the host leaves the pools that send it traffic, and the requests in flight are waited for, as the kernel's sockets \
         show them, with a deadline. \\fBdrain\\-connections\\-rejoin.service\\fR takes it back once the programs are up.\n",
    );
    page.push_str(".SH COMMANDS\n");
    for verb in root.get_subcommands().filter(|verb| !shown_elsewhere(verb)) {
        page.push_str(&verb_section(verb));
    }
    page.push_str(".SH EXIT STATUS\n");
    let codes = root.get_after_help().unwrap().to_string();
    let codes = codes.strip_prefix("Exit codes: ").unwrap();
    for code in codes.split(" · ") {
        let (number, meaning) = code.trim().split_once(' ').unwrap();
        let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
        page.push_str(&format!(".TP\n.B {number}\n{}\n", plain(&meaning)));
    }
    page.push_str(".SH FILES\n");
    for (file, what) in [
        (
            "/etc/drainctl/drainctl.toml",
            "the settings; see drainctl.toml(5)",
        ),
        (
            "/etc/drainctl/conf.d/*.toml",
            "more of them; they win, in the order of their names",
        ),
        (
            "/var/lib/drainctl/receipts.json",
            "what a rejoin has to undo",
        ),
        (
            "/var/lib/drainctl/history/",
            "the reports of the last 32 drains",
        ),
        (
            "/run/drainctl/control.sock",
            "control over the drain that is running, for root",
        ),
    ] {
        page.push_str(&format!(".TP\n.I {}\n{}\n", plain(file), plain(what)));
    }
    page.push_str(
        ".SH SEE ALSO\n.BR drainctl.toml (5),\n.BR systemd.unit (5),\n.BR journalctl (1)\n",
    );
    page
}

fn shown_elsewhere(verb: &clap::Command) -> bool {
    verb.is_hide_set() || verb.get_name() == "help"
}

fn verb_section(verb: &clap::Command) -> String {
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let about = verb.get_long_about().or(verb.get_about()).unwrap();
    let mut text = format!(".SS \"{}\"\n", plain(usage));
    for (at, part) in about.to_string().split("\n\n").enumerate() {
        let pause = if at == 0 { "" } else { ".PP\n" };
        text.push_str(&format!("{pause}{}\n", plain(part)));
    }
    for argument in verb
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
    {
        if matches!(argument.get_id().as_str(), "help" | "version") {
            continue;
        }
        let value = argument.get_value_names().unwrap_or_default().join(" ");
        let takes = argument.get_action().takes_values();
        let name = match argument.get_long() {
            Some(long) if takes => {
                format!("\\fB\\-\\-{}\\fR \\fI{}\\fR", plain(long), plain(&value))
            }
            Some(long) => format!("\\fB\\-\\-{}\\fR", plain(long)),
            None => format!("\\fI{}\\fR", plain(&value)),
        };
        let help = argument.get_long_help().or(argument.get_help());
        let help =
            help.unwrap_or_else(|| panic!("{} {} has no help", verb.get_name(), argument.get_id()));
        text.push_str(&format!(".TP\n{name}\n{}\n", plain(&help.to_string())));
    }
    for example in examples(verb) {
        text.push_str(&format!(".PP\n.EX\n    {}\n.EE\n", plain(&example)));
    }
    text
}

fn settings_page() -> String {
    let mut page = head(
        "DRAINCTL.TOML",
        5,
        "drainctl.toml \\- the settings of drainctl",
    );
    page.push_str(
        ".SH SYNOPSIS\n.I /etc/drainctl/drainctl.toml\n.br\n.I /etc/drainctl/conf.d/*.toml\n.SH DESCRIPTION\nNone is needed. These are all keys with \
         their defaults. Those behind a # have none, or stand for one of several. A fault is said with its line and what mends it; a drain \
         goes on with the last good settings.\n.PP\n.EX\n",
    );
    page.push_str(&plain(DEFAULTS));
    page.push_str("\n.EE\n.SH SEE ALSO\n.BR drainctl (8)\n");
    page
}

/// The commands that a verb's help shows.
fn examples(verb: &clap::Command) -> Vec<String> {
    let help = verb
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let Some((_, shown)) = help
        .split_once("Example: ")
        .or(help.split_once("Examples: "))
    else {
        return Vec::new();
    };
    let shown = shown.lines().next().unwrap_or_default();
    shown
        .split(" · ")
        .map(|one| one.trim().to_owned())
        .collect()
}

/// What each call of drainctl in a line of shell has for arguments.
fn calls(line: &str) -> Vec<Vec<String>> {
    line.split(['|', '&', ';', '#'])
        .filter_map(|part| {
            let words: Vec<String> = part.split_whitespace().map(str::to_owned).collect();
            let at = words.iter().position(|word| word != "sudo")?;
            (words[at] == "drainctl").then(|| words[at..].to_vec())
        })
        .collect()
}

#[test]
fn each_verb_shows_an_example_that_works() {
    let root = Opts::command();
    for verb in root.get_subcommands().filter(|verb| !shown_elsewhere(verb)) {
        let shown = examples(verb);
        let mut own = 0;
        for call in shown.iter().flat_map(|line| calls(line)) {
            own += usize::from(call.get(1).is_some_and(|word| word == verb.get_name()));
            if let Err(error) = Opts::try_parse_from(&call) {
                panic!("{call:?}: {error}");
            }
        }
        assert!(
            own > 0,
            "`drainctl {} --help` shows no example of it: {shown:?}",
            verb.get_name()
        );
    }
}

#[test]
fn what_the_readme_shows_can_be_typed() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(readme).unwrap();
    let mut seen = 0;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("# ").or(line.strip_prefix("$ ")) else {
            continue;
        };
        for call in calls(line).into_iter().filter(|call| call.len() > 1) {
            seen += 1;
            if let Err(error) = Opts::try_parse_from(&call) {
                panic!("{line}: {error}");
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

/// The program's output; nothing where it is not installed.
fn run(test: &str, program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED {test}: needs {program}");
        return None;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output)
}

fn text(name: &str) -> &'static str {
    let found = PAPER.iter().find(|(path, _)| path.ends_with(name));
    found.unwrap().1
}

#[test]
fn the_man_pages_are_good_roff() {
    for name in ["man8/drainctl.8", "man5/drainctl.toml.5"] {
        let arguments = ["-man", "-Tutf8", "-ww", "-rLL=80n", "-P-cbou"];
        let Some(output) = run(
            "the_man_pages_are_good_roff",
            "groff",
            &arguments,
            text(name),
        ) else {
            return;
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("SEE ALSO"), "{shown}");
    }
}

#[test]
fn bash_zsh_and_fish_complete() {
    let test = "bash_zsh_and_fish_complete";
    let bash = format!(
        "{}\nCOMP_WORDS=(drainctl re); COMP_CWORD=1; _drainctl drainctl re drainctl; echo \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(drainctl report --); COMP_CWORD=2; _drainctl drainctl -- report; echo \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(drainctl demo b); COMP_CWORD=2; _drainctl drainctl b demo; echo \"${{COMPREPLY[@]}}\"\n",
        text("completions/drainctl")
    );
    let fish = format!(
        "{}\ncomplete -C 'drainctl re'\ncomplete -C 'drainctl report --'\ncomplete -C 'drainctl demo b'\n",
        text("drainctl.fish")
    );
    // Only what it reads: its completion wants a terminal.
    let zsh = format!(
        "autoload -Uz compinit; compinit -D -u\n{}\nfunctions _drainctl\n",
        text("_drainctl")
    );
    for (shell, arguments, input) in [
        ("bash", vec!["--norc"], bash),
        ("fish", vec!["--no-config"], fish),
        ("zsh", vec!["-f"], zsh),
    ] {
        let Some(output) = run(test, shell, &arguments, &input) else {
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        for word in ["rehearse", "rejoin", "report", "--html", "--metrics"] {
            assert!(said.contains(word), "{shell}, {word}: {said}");
        }
        assert!(!said.contains("backend"), "{shell}: {said}");
    }
}

#[test]
fn a_reader_that_is_gone_ends_no_verb_badly_and_a_full_disk_does() {
    let program = env!("CARGO_BIN_EXE_drainctl");
    for verb in [
        "report --list",
        "doctor",
        "status",
        "--help",
        "report --help",
    ] {
        let mut child = Command::new(program)
            .args(verb.split(' '))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        drop(child.stderr.take());
        let status = child.wait().unwrap();
        // A signal is how a panic ends it in a release build, 101 in this one.
        assert!(
            status.code().is_some_and(|code| code != 101),
            "{verb}: {status}"
        );
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(program)
        .args(["report", "--list"])
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Without root there may be nothing to be seen.
    assert_eq!(output.status.code(), Some(1), "{said}");
}
