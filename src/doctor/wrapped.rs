//! Programs under `drainctl run`: does supervisord let them be drained?

use std::time::Duration;

use super::Severity::{Error, Warning};
use super::{Facts, Finding};
use crate::config::duration;
use crate::report::age;
use crate::supervisord::Stop;
use crate::world::signals;

/// What the program itself may take to end after its drain.
const OWN_END: Duration = Duration::from_secs(10);
/// A changed program is restarted. Whatever came of the drain, the host goes back.
const UPDATE: &str = "drainctl drain && supervisorctl update; drainctl rejoin";

/// What a command line says of `drainctl run`.
struct Run {
    drain_on: Vec<i32>,
    deadline: Option<Duration>,
    group: bool,
}

/// The options of `drainctl run` in a command line as supervisord keeps it; none where it runs something else.
fn run(command: &str) -> Option<Run> {
    let mut words = command
        .split_ascii_whitespace()
        .map(|word| word.trim_matches(['"', '\'']));
    words.find(|word| word.rsplit('/').next() == Some("drainctl"))?;
    if words.next() != Some("run") {
        return None;
    }
    let mut run = Run {
        drain_on: vec![signals::TERM],
        deadline: None,
        group: false,
    };
    while let Some(word) = words
        .next()
        .filter(|word| word.starts_with("--") && *word != "--")
    {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if name == "--group" {
            run.group = true;
            continue;
        }
        let value = value.or_else(|| words.next()).unwrap_or_default();
        match name {
            "--drain-on" => run.drain_on = value.split(',').filter_map(signals::number).collect(),
            "--deadline" => run.deadline = duration::parse(value).ok(),
            _ => {}
        }
    }
    Some(run)
}

pub(super) fn programs(facts: &Facts) -> Vec<Finding> {
    let all = facts.stops.iter();
    all.flat_map(|(unit, stop)| judge(facts, unit, stop))
        .collect()
}

/// What supervisord does to one program. The lines to paste are the same for each finding, since they go into one file.
fn judge(facts: &Facts, unit: &str, stop: &Stop) -> Vec<Finding> {
    let Some(run) = run(&stop.command) else {
        return Vec::new();
    };
    let (program, file) = (&stop.program, format!("the configuration of {unit}"));
    let deadline = run.deadline.unwrap_or(facts.settings.deadline.restart);
    let needed = deadline.saturating_add(OWN_END);
    let signal = signals::name(stop.signal);
    let short = signal.trim_start_matches("SIG");
    let mut found = Vec::new();
    let mut lines = Vec::new();
    if !run.drain_on.contains(&stop.signal) {
        let what = format!(
            "supervisord stops {program} with {signal}, which is passed on at once: {program} is not drained"
        );
        found.push(Finding::new(Error, what).seen(&file, "stopsignal", short));
        lines.push("stopsignal=TERM".to_owned());
    }
    if stop.limit < needed {
        let what = format!(
            "supervisord kills {program} after {}, but its drain may take {}: what is in flight then is cut",
            age(stop.limit),
            age(deadline)
        );
        let limit = stop.limit.as_secs().to_string();
        found.push(Finding::new(Error, what).seen(&file, "stopwaitsecs", limit));
        lines.push(format!("stopwaitsecs={}", needed.as_secs()));
    }
    let section = program.split(':').next().unwrap_or(program);
    let section = format!("[program:{section}]");
    let pasted: Vec<&str> = std::iter::once(&section)
        .chain(&lines)
        .map(String::as_str)
        .collect();
    let mend = |finding: Finding| match facts.around.last_words.get(unit) {
        Some(last) => finding.set(last, &pasted).run(UPDATE),
        None => finding.hand(format!(
            "set {} in {section}, and run `supervisorctl update`",
            lines.join(", ")
        )),
    };
    let mut found: Vec<Finding> = found.into_iter().map(mend).collect();
    if stop.as_group && !run.group {
        let what = format!(
            "stopasgroup of {program} reaches drainctl run alone: the program has a process group of its own"
        );
        // The command is not told, to be pasted: its arguments may be secrets.
        found.push(
            Finding::new(Warning, what)
                .seen(&file, "stopasgroup", "true")
                .hand(format!(
                    "add --group after `drainctl run` in command= of {section}; then `{UPDATE}`"
                )),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(edit: impl FnOnce(&mut Stop)) -> Vec<Finding> {
        let mut stop = Stop {
            program: "web".to_owned(),
            command: "/usr/bin/drainctl run --service web -- gunicorn --group x".to_owned(),
            signal: signals::TERM,
            limit: Duration::from_secs(90),
            as_group: false,
        };
        edit(&mut stop);
        let mut facts = Facts {
            stops: vec![("supervisor.service".to_owned(), stop)],
            ..Facts::default()
        };
        let last = ("supervisor.service".to_owned(), "/etc/last.conf".to_owned());
        facts.around.last_words.extend([last]);
        programs(&facts)
    }

    fn found(edit: impl FnOnce(&mut Stop)) -> Vec<String> {
        findings(edit)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn a_program_that_is_stopped_as_it_should_be_is_fine() {
        assert!(found(|_| {}).is_empty());
        assert!(found(|stop| stop.command = "gunicorn drainctl.wsgi:app".to_owned()).is_empty());
    }

    #[test]
    fn what_keeps_supervisord_from_waiting_is_found() {
        let one = |edit: fn(&mut Stop), part: &str| {
            let found = found(edit);
            assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        };
        one(|stop| stop.signal = 3, "SIGQUIT");
        one(|stop| stop.limit = Duration::from_secs(10), "kills web");
        one(|stop| stop.as_group = true, "stopasgroup");
        one(
            |stop| stop.command = "drainctl run --deadline 5m x".to_owned(),
            "5 min",
        );
    }

    #[test]
    fn a_command_is_never_told() {
        let found = findings(|stop| {
            stop.as_group = true;
            stop.signal = 3;
            stop.command = "drainctl run -- web --password hunter2".to_owned();
        });
        let told = serde_json::to_string(&found).unwrap();
        assert!(
            told.contains("stopsignal=TERM") && told.contains("add --group"),
            "{told}"
        );
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn options_of_run_are_heeded() {
        assert!(
            found(|stop| {
                stop.signal = 3;
                stop.as_group = true;
                stop.limit = Duration::from_secs(20);
                stop.command =
                    "env A=b '/opt/drainctl' run --group --drain-on=TERM,QUIT --deadline 5s -- x"
                        .to_owned();
            })
            .is_empty()
        );
    }
}
