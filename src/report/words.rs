//! How things are said to people. Pure.

use std::time::Duration;

use crate::drain::event::{Held, Looked, PoolReport, PoolStep, Report};
use crate::drain::{Cause, Outcome};
use crate::text::middle_cut;

/// So many programs are named on one line.
const MOST_PROGRAMS: usize = 4;
/// With so many characters of their names.
const MOST_NAME: usize = 24;

/// A duration as people say it: `850 ms`, `4.2 s`, `3 min 5 s`.
#[must_use]
pub fn short(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => age(time),
    }
}

/// So many bytes: `412 B`, `12.0 kB`, `3.1 GB`.
#[must_use]
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut tenths = count / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A duration in whole seconds: `12 s`, `3 min 5 s`, `2 h 5 min`.
#[must_use]
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `3 in flight (app 2, api 1), oldest 12 s`.
#[must_use]
pub fn in_flight(looked: &Looked) -> String {
    if looked.busy == 0 {
        return "nothing in flight".to_owned();
    }
    let mut programs: Vec<String> = looked
        .programs
        .iter()
        .take(MOST_PROGRAMS)
        .map(|(name, count)| format!("{} {count}", middle_cut(name, MOST_NAME)))
        .collect();
    match looked.programs.len().saturating_sub(MOST_PROGRAMS) {
        0 => {}
        others => programs.push(format!("{others} others")),
    }
    let oldest = looked
        .oldest()
        .map(|oldest| format!(", oldest {}", age(oldest)))
        .unwrap_or_default();
    format!(
        "{} in flight ({}){oldest}",
        looked.busy,
        programs.join(", ")
    )
}

/// One connection: `app  10.0.0.7:51234  for 12 s, 412 bytes in, 0 out: request not answered`.
#[must_use]
pub fn held(held: &Held) -> String {
    format!(
        "{}  {} → {}  for {}, {} bytes in, {} out: {}",
        held.program,
        held.peer,
        held.local,
        age(held.age),
        held.received,
        held.sent,
        held.verdict
    )
}

/// A step of a pool.
#[must_use]
pub fn pool(name: &str, step: &PoolStep) -> String {
    match step {
        PoolStep::Receipt => format!("{name}: what stood before is on disk"),
        PoolStep::Asked => format!("{name}: asked for no new traffic"),
        PoolStep::Out => format!("{name}: out, it says so itself"),
        PoolStep::NotMember => format!("{name}: does not know this host, nothing to leave"),
        PoolStep::Retrying { error, .. } => format!("{name}: trying again: {error}"),
        PoolStep::Failed { error } => {
            format!("{name}: COULD NOT BE LEFT, traffic may go on: {error}")
        }
        PoolStep::Rejoined => format!("{name}: back in"),
    }
}

/// Why, as people say it.
#[must_use]
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Poweroff => "poweroff",
        Cause::Reboot => "reboot",
        Cause::Halt => "halt",
        Cause::Kexec => "kexec",
        Cause::SoftReboot => "soft-reboot",
        Cause::OtherShutdown => "shutdown",
        Cause::Restart => "restart",
        Cause::Stop => "stop",
        Cause::CrashRestart => "restart after a crash",
        Cause::HookStop => "stop of the hook",
        Cause::ByHand => "by hand",
        Cause::Unknown => "unknown cause, taken for a shutdown",
    }
}

/// The report, a line each.
#[must_use]
pub fn report(report: &Report) -> Vec<String> {
    let when = if report.is_finished() {
        "in"
    } else {
        "after at least"
    };
    let mut lines = vec![format!(
        "{} {when} {} ({})",
        headline(report),
        short(report.took),
        cause(report.cause)
    )];
    if let Some(busy) = report.last_busy {
        lines.push(format!(
            "at most {} in flight at once, the last seen after {}",
            report.most_in_flight,
            short(busy)
        ));
    }
    let begun = !matches!(report.outcome, Outcome::Refused | Outcome::NothingToDo);
    let stayed = |pool: &&PoolReport| begun && pool.out.is_none();
    for pool in report.pools.iter().filter(stayed) {
        let error = pool.error.as_deref().unwrap_or("not asked");
        lines.push(format!("{} could not be left: {error}", pool.name));
    }
    if !report.cut.is_empty() {
        let more = if report.cut.len() > MOST_CUT {
            format!(", the oldest {MOST_CUT}")
        } else {
            String::new()
        };
        lines.push(format!("{} still in flight{more}:", report.in_flight));
        lines.extend(
            report
                .cut
                .iter()
                .take(MOST_CUT)
                .map(|one| format!("  {}", held(one))),
        );
    }
    lines
}

/// So many cut connections are named in a log; the kept report has more.
const MOST_CUT: usize = 20;

/// How it ended, as people say it.
pub(super) fn headline(report: &Report) -> &'static str {
    let left = report.pools.iter().all(|pool| pool.out.is_some());
    match report.outcome {
        Outcome::Drained if left && report.in_flight.is_zero() => "drained",
        Outcome::Drained if left => "drained, but traffic went on after every pool was left",
        Outcome::Drained => "drained, but not every pool could be left",
        Outcome::DeadlineHit => "DEADLINE HIT",
        Outcome::Skipped => "skipped",
        Outcome::Refused => "REFUSED, nothing was changed",
        Outcome::Aborted => "aborted, back in every pool",
        Outcome::NothingToDo => "nothing to do",
        Outcome::Unfinished => "ENDED WITHOUT A WORD: killed, or the power went",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn a_pool_that_nobody_wanted_to_leave_is_not_said_to_have_stayed() {
        let stays = |outcome| {
            let mut told = Report {
                outcome,
                ..sample()
            };
            for pool in &mut told.pools {
                (pool.out, pool.error) = (None, None);
            }
            report(&told)
                .iter()
                .any(|line| line.contains("could not be left"))
        };
        assert!(stays(Outcome::Drained));
        assert!(!stays(Outcome::NothingToDo));
        assert!(!stays(Outcome::Refused));
    }
}
