//! Were requests seen that last longer than somebody waits for them?

use std::time::Duration;

use super::super::Severity::Warning;
use super::super::{Facts, Finding, limits};
use crate::config;
use crate::report::age;

/// A file of its own for each deadline: what was pasted for the other one stays.
const LAST_WORDS: [&str; 2] = [
    limits::LAST_WORD,
    "/etc/drainctl/conf.d/zz-deadline-restart.toml",
];
/// What lasts longer is a stream, which no limit is made for.
const STREAM: Duration = Duration::from_mins(10);
/// A shutdown's deadline can't be set higher (config), and is not proposed higher.
const MOST: Duration = Duration::from_mins(25);

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = killed(facts).collect();
    found.extend(cut(facts));
    found
}

/// By supervisord, for each program that was seen to take longer than its limit.
fn killed(facts: &Facts) -> impl Iterator<Item = Finding> {
    facts.stop_limits.iter().filter_map(|(unit, program, limit)| {
        let seen = facts.around.longest.iter().filter(|seen| {
            seen.program == *program && seen.age > *limit && seen.age < STREAM
        });
        let seen = seen.max_by_key(|seen| seen.age)?;
        let what = format!(
            "requests to {program} were seen to take {}, but supervisord kills it {} after it told it to end: a restart by supervisorctl cuts \
             them, and so does the end of a drain that its deadline ended",
            age(seen.age),
            age(*limit)
        );
        let section = program.split(':').next().unwrap_or(program);
        let needed = seen.age.as_secs() * 3 / 2 + 1;
        let lines = [
            format!("[program:{section}]"),
            format!("stopwaitsecs={needed}"),
        ];
        let file = facts.around.last_words.get(unit)?;
        Some(
            Finding::new(Warning, what)
                .seen(program, "stopwaitsecs", limit.as_secs().to_string())
                .seen(format!("drain {}", seen.drain), "longest request", age(seen.age))
                .set(file, &[&lines[0], &lines[1]])
                // A changed program is restarted.
                .run("drainctl drain && supervisorctl update; drainctl rejoin"),
        )
    })
}

/// By the deadline of the last drain, where that is no longer by now.
fn cut(facts: &Facts) -> Option<Finding> {
    let cut = facts.around.cut.as_ref()?;
    let deadline = &facts.settings.deadline;
    let (key, now) = if cut.shutdown {
        ("shutdown", deadline.shutdown)
    } else {
        ("restart", deadline.restart)
    };
    if now > cut.limit || cut.oldest >= STREAM {
        return None;
    }
    let what = format!(
        "the last drain cut {} after {}: its deadline came first, and would again",
        if cut.count == 1 {
            "a request".to_owned()
        } else {
            format!("{} requests", cut.count)
        },
        age(cut.limit)
    );
    let needed = (cut.limit.max(cut.oldest) * 2).min(MOST).as_secs();
    let finding = Finding::new(Warning, what)
        .seen(
            format!("drain {}", cut.drain),
            "oldest request cut",
            age(cut.oldest),
        )
        .seen(config::MAIN, format!("deadline.{key}"), age(now));
    Some(if needed > now.as_secs() {
        finding.set(
            LAST_WORDS[usize::from(!cut.shutdown)],
            &["[deadline]", &format!("{key} = \"{needed}s\"")],
        )
    } else {
        finding.hand("`drainctl report` names them: let those requests be shorter")
    })
}
