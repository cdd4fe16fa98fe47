//! What is asked of a drain under way: status, skip, extend, abort.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Cause;
use super::control::{Answer, Request};
use super::engine::Engine;
use super::event::Event;
use super::machine::Input;
use crate::receipts::boot_clock;
use crate::report;
use crate::systemd::{self, HOOK, Snapshot, systemctl};
use crate::world::Deadline;

/// poweroff.target and reboot.target force their way so long after they were asked for (`JobTimeoutSec=` in their units).
const CEILING: Duration = Duration::from_mins(30);
/// PID 1 has this long to take an order.
const PID_1: Duration = Duration::from_secs(2);
/// And this long for the last look, which holds the drain up.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// No other drain takes longer.
const DAY: Duration = Duration::from_hours(24);

impl Engine<'_> {
    /// What is said to a request, and what it means for the machine.
    pub(super) fn answer(&mut self, request: Request) -> (Answer, Option<Input>) {
        let done = |text: &str, input| (Answer::Done(text.to_owned()), Some(input));
        let refused = |text: String| (Answer::Refused(text), None);
        match request {
            Request::Status => {
                let left = Deadline::at(self.end_at()).left();
                let now = self.story.now(self.began.elapsed(), left);
                (Answer::Status(Box::new(now)), None)
            }
            _ if self.over.load(Ordering::Relaxed) => refused("it is ending already".to_owned()),
            Request::Skip => done("going on at once", Input::Skip),
            Request::Abort if self.run.cause.is_shutdown() => {
                refused("the machine is going down: it can't be undone, only skipped".to_owned())
            }
            Request::Abort if self.order.as_hook => match self.call_off() {
                Ok(()) => done("undoing it", Input::Abort),
                Err(why) => refused(format!(
                    "systemd goes on to stop {} after it, and {why}: it can only be skipped",
                    self.names.join(", ")
                )),
            },
            Request::Abort => done("undoing it", Input::Abort),
            Request::Extend { by } => {
                let used = boot_clock().saturating_sub(self.run.began);
                let end = used + Deadline::at(self.end_at()).left();
                match extended(self.run.cause, end, by) {
                    Ok(end) => {
                        self.extend(by);
                        let left = report::age(end - used);
                        done(&format!("{left} left now"), Input::Extend(by))
                    }
                    Err(why) => refused(why),
                }
            }
        }
    }

    /// Has PID 1 forget why it stops the hook, and what it would stop after it; why not, otherwise.
    fn call_off(&self) -> Result<(), String> {
        let deadline = Deadline::after(PID_1);
        let told = |error: systemd::Error| format!("can't be told not to ({error})");
        let snapshot = systemd::snapshot(&self.names, deadline).map_err(told)?;
        if !Cause::shutdowns(&snapshot).is_empty() {
            return Err("the machine is going down by now".to_owned());
        }
        let stops = Cause::stops(&snapshot, HOOK, &self.names);
        let ids: Vec<u32> = stops.into_iter().map(|job| job.id).collect();
        systemctl::cancel(&ids, deadline).map_err(told)
    }

    /// Whether what this drain is for was called off; if so, that is said.
    pub(super) fn is_called_off(&mut self, snapshot: &Snapshot) -> bool {
        let off = self.order.as_hook
            && !self.over.load(Ordering::Relaxed)
            && Cause::is_called_off(snapshot, HOOK, &self.names);
        if off {
            self.order_note(format!(
                "the {} was cancelled: it is undone; what else was stopped, `systemctl start default.target` starts",
                self.run.cause
            ));
        }
        off
    }

    /// The same, asked now: nobody else would take this host back.
    pub(super) fn is_called_off_by_now(&mut self) -> bool {
        self.order.as_hook
            && systemd::snapshot(&self.names, Deadline::after(LAST_LOOK))
                .is_ok_and(|snapshot| self.is_called_off(&snapshot))
    }

    /// Has PID 1 start the hook again once this process is gone: without it the next stop would not be drained.
    pub(super) fn start_again(&mut self) {
        if !self.order.as_hook {
            return;
        }
        if let Err(error) = systemctl::start_later(HOOK, Deadline::after(PID_1)) {
            self.order_note(format!(
                "the next stop will not be drained ({error}): `systemctl start {HOOK}`"
            ));
        }
    }

    fn extend(&mut self, by: Duration) {
        *self
            .deadline
            .write()
            .unwrap_or_else(PoisonError::into_inner) += by;
        self.run.limit += by;
        self.say(Event::Extended {
            by,
            limit: self.run.limit,
        });
    }
}

/// When a drain that would end at `end` since its beginning ends with `by` more; or why it may not have that.
fn extended(cause: Cause, end: Duration, by: Duration) -> Result<Duration, String> {
    let (most, why) = if cause.is_shutdown() {
        (CEILING, "then systemd ends every process by force")
    } else {
        (DAY, "no drain takes longer")
    };
    let longer = end.saturating_add(by);
    if longer <= most {
        return Ok(longer);
    }
    Err(format!(
        "that would be more than {} since it began, and {why}; at most {} more can be had",
        report::age(most),
        report::age(most.saturating_sub(end))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_is_not_extended_beyond_the_ceiling_of_its_target() {
        let minutes = Duration::from_mins;
        let extend = |cause, end, by| extended(cause, minutes(end), minutes(by));
        assert_eq!(extend(Cause::Poweroff, 5, 25), Ok(minutes(30)));
        assert_eq!(extend(Cause::ByHand, 5, 60), Ok(minutes(65)));
        for cause in [Cause::Poweroff, Cause::Reboot, Cause::Unknown] {
            let why = extend(cause, 5, 26).unwrap_err();
            assert!(why.ends_with("at most 25 min 0 s more can be had"), "{why}");
        }
        assert!(extended(Cause::Restart, minutes(5), Duration::MAX).is_err());
    }
}
