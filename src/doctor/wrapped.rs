//! Programs under `drainctl run`: does supervisord let them be drained?

use std::time::Duration;

use super::Severity::{Error, Warning};
use super::{Facts, Finding};
use crate::config::duration;
use crate::report::age;
use crate::world::signals;

/// What the program itself may take to end after its drain.
const OWN_END: Duration = Duration::from_secs(10);

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
    let mut found = Vec::new();
    for (unit, stop) in &facts.stops {
        let Some(run) = run(&stop.command) else {
            continue;
        };
        let (program, file) = (&stop.program, format!("the configuration of {unit}"));
        let by_hand = |line: &str| {
            format!("set {line} in [program:{program}] and run `supervisorctl update`")
        };
        if !run.drain_on.contains(&stop.signal) {
            let signal = signals::name(stop.signal);
            let short = signal.trim_start_matches("SIG");
            let what = format!(
                "supervisord stops {program} with {signal}, which is passed on at once: {program} is not drained"
            );
            found.push(
                Finding::new(Error, what)
                    .seen(&file, "stopsignal", short.to_owned())
                    .hand(format!(
                        "{}, or give drainctl run --drain-on {short}",
                        by_hand("stopsignal=TERM")
                    )),
            );
        }
        let deadline = run.deadline.unwrap_or(facts.settings.deadline.restart);
        let needed = deadline.saturating_add(OWN_END);
        if stop.limit < needed {
            let what = format!(
                "supervisord kills {program} after {}, but its drain may take {}: what is in flight then is cut",
                age(stop.limit),
                age(deadline)
            );
            let line = format!("stopwaitsecs={}", needed.as_secs());
            found.push(
                Finding::new(Error, what)
                    .seen(&file, "stopwaitsecs", stop.limit.as_secs().to_string())
                    .hand(by_hand(&line)),
            );
        }
        if stop.as_group && !run.group {
            let what = format!(
                "stopasgroup of {program} reaches drainctl run alone: the program has a process group of its own"
            );
            found.push(
                Finding::new(Warning, what)
                    .seen(&file, "stopasgroup", "true".to_owned())
                    .hand(format!(
                        "give drainctl run --group in the command of [program:{program}]"
                    )),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisord::Stop;

    fn found(edit: impl FnOnce(&mut Stop)) -> Vec<String> {
        let mut stop = Stop {
            program: "web".to_owned(),
            command: "/usr/bin/drainctl run --service web -- gunicorn --group x".to_owned(),
            signal: signals::TERM,
            limit: Duration::from_secs(90),
            as_group: false,
        };
        edit(&mut stop);
        let facts = Facts {
            stops: vec![("supervisor.service".to_owned(), stop)],
            ..Facts::default()
        };
        let found = programs(&facts);
        found.into_iter().map(|finding| finding.what).collect()
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
