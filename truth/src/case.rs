//! One verdict and what it rests on.

use drainctl::evidence::verdict::{History, Seen, Stage, Tie, Verdict, Why};

/// One verdict and all that it rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What the kernel showed.
    pub(crate) seen: Seen,
    /// What was known from before.
    pub(crate) history: History,
    /// What the product made of it.
    pub(crate) verdict: Verdict,
}

impl Case {
    /// The kind of evidence. Finer than the product's rules, so that the figures can show where a rule could be cut.
    pub(crate) fn rule(&self) -> String {
        if let Verdict::Busy(
            why @ (Why::Unread | Why::Unsent | Why::PeerSilent | Why::Unaccepted | Why::Fresh),
        ) = self.verdict
        {
            return format!("{why:?}").to_lowercase();
        }
        if let Verdict::Uncertain(Tie::Handshake) = self.verdict {
            return "little more than a handshake".to_owned();
        }
        if let Verdict::Busy(why @ (Why::Streaming | Why::Open)) = self.verdict {
            return format!("{why:?}").to_lowercase();
        }
        if let Some(flow) = self.history.flow {
            return format!("HTTP/2, last {:?}", flow.last);
        }
        let Some(ages) = self.seen.ages else {
            return "ages withheld".to_owned();
        };
        let name = match self.seen.stage {
            Stage::Opening | Stage::Closing | Stage::Closed => "not open",
            _ if self.seen.received == 0 => "never used",
            _ if ages.received < ages.sent => "received later",
            _ if self.seen.sent == 0 => "nothing sent yet",
            _ if ages.sent < ages.received => "sent later",
            Stage::Open if ages.ack < ages.received => {
                return format!("tie, acknowledged later, {:?}", self.history.pingpong);
            }
            Stage::HalfClosed => "tie, half-closed",
            Stage::Open => return self.tie(ages.received),
        };
        name.to_owned()
    }

    fn tie(&self, age: u32) -> String {
        let word = match self.history.since {
            Some(_) => "since",
            None => "ever",
        };
        let segments = self.history.since.or(self.seen.segments);
        let counts = segments.map_or_else(String::new, |segments| {
            let [out, into, payloads] = [
                segments.acks_sent,
                segments.acks_received,
                segments.payloads_received,
            ]
            .map(|count| match count {
                0 => "0",
                1 => "1",
                _ => "2+",
            });
            format!("acks out {out} in {into} payloads {payloads}")
        });
        let mode = self.history.pingpong;
        // Up to the longest delayed ACK, no ACK says nothing.
        let young = if age <= 200 { ", young" } else { "" };
        format!("tie, {word} {counts}, {mode:?}{young}")
    }
}
