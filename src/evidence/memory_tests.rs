use super::*;
use crate::evidence::verdict::Last;

fn seen(received: u64, sent: u64, acks_sent: u16, ages: (u32, u32, u32)) -> Seen {
    let ages = Some(Ages {
        received: ages.0,
        sent: ages.1,
        ack: ages.2,
    });
    Seen {
        received,
        sent,
        segments: Some(Segments {
            acks_sent,
            ..Segments::default()
        }),
        ages,
        ..Seen::default()
    }
}

fn acks_sent(noted: &Noted) -> Option<u16> {
    noted.history.since.map(|since| since.acks_sent)
}

struct Lab {
    memory: Memory,
    start: Instant,
    rule: Rule,
}

impl Lab {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            memory: Memory::new(start),
            start,
            rule: Rule::Requests,
        }
    }

    fn look(&mut self, at: u64, cookie: u64, seen: &Seen) -> Noted {
        self.memory.begin();
        let noted = self.memory.note(
            self.start + Duration::from_millis(at),
            cookie,
            seen,
            self.rule,
        );
        self.memory.end();
        noted
    }
}

#[test]
fn the_first_look_knows_nothing_and_finds_nothing_new() {
    let mut lab = Lab::new();
    let noted = lab.look(0, 1, &seen(10, 10, 3, (5, 5, 5)));
    assert_eq!((noted.history, noted.arrived), (History::default(), false));
    assert_eq!(noted.age, Duration::from_millis(5));
}

#[test]
fn segments_are_counted_from_the_look_before_the_request() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
    let noted = lab.look(50, 1, &seen(20, 20, 3, (20, 20, 20)));
    assert!(noted.arrived);
    assert_eq!(acks_sent(&noted), Some(0));
    let noted = lab.look(100, 1, &seen(20, 20, 4, (70, 70, 70)));
    assert!(!noted.arrived);
    assert_eq!(acks_sent(&noted), Some(1));
}

#[test]
fn the_mode_is_remembered_until_the_next_payload_but_not_while_an_ack_is_due() {
    let mut lab = Lab::new();
    let quiet = seen(10, 10, 3, (500, 500, 460));
    assert_eq!(lab.look(0, 1, &quiet).history.pingpong, Pingpong::Unread);
    lab.memory.read(1, Pingpong::On);
    assert_eq!(lab.look(50, 1, &quiet).history.pingpong, Pingpong::On);
    let fresh = seen(20, 20, 3, (10, 10, 10));
    assert_eq!(lab.look(100, 1, &fresh).history.pingpong, Pingpong::Unread);
    lab.memory.read(1, Pingpong::On);
    assert_eq!(lab.look(150, 1, &fresh).history.pingpong, Pingpong::Unread);
}

#[test]
fn segments_are_not_counted_from_the_midst_of_a_request() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
    lab.look(50, 1, &seen(20, 20, 3, (2, 2, 2)));
    let noted = lab.look(100, 1, &seen(30, 20, 4, (48, 48, 48)));
    assert_eq!(acks_sent(&noted), Some(1));
}

#[test]
fn a_connection_opened_between_two_looks_has_a_history_and_is_an_arrival() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
    let noted = lab.look(50, 2, &seen(20, 20, 1, (20, 20, 20)));
    assert_eq!((noted.arrived, acks_sent(&noted)), (true, Some(1)));
}

#[test]
fn a_connection_without_a_byte_arrives_with_its_first() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
    assert!(!lab.look(50, 2, &seen(0, 0, 1, (20, 20, 20))).arrived);
    let noted = lab.look(100, 2, &seen(77, 0, 1, (20, 70, 20)));
    assert_eq!((noted.arrived, noted.size), (true, 77));
}

#[test]
fn of_a_connection_that_is_gone_only_what_no_look_has_shown_is_new() {
    let mut lab = Lab::new();
    assert_eq!(lab.memory.gone(7, 0, 0), None);
    assert_eq!(lab.memory.gone(7, 90, 1), Some(90));
    let mut one = seen(10, 10, 3, (500, 500, 460));
    one.segments = Some(Segments {
        payloads_received: 1,
        ..Segments::default()
    });
    lab.look(0, 1, &one);
    assert_eq!(lab.memory.gone(1, 10, 1), None);
    assert_eq!(lab.memory.gone(1, 60, 2), Some(50));
    lab.memory.judged(1, Verdict::Busy(Why::Unanswered));
    assert_eq!(lab.memory.gone(1, 60, 2), None);
}

#[test]
fn more_bytes_of_an_unanswered_request_are_no_arrival() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(10, 10, 3, (5, 500, 5)));
    lab.memory.judged(1, Verdict::Busy(Why::Unanswered));
    assert!(!lab.look(50, 1, &seen(99, 10, 3, (5, 550, 5))).arrived);
    lab.memory.judged(1, Verdict::Busy(Why::Unanswered));
    // Answered and asked again between two looks.
    assert!(lab.look(100, 1, &seen(120, 50, 3, (5, 10, 5))).arrived);
}

#[test]
fn the_longest_pause_of_an_answer_is_measured_and_forgotten_with_the_next_request() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(10, 10, 0, (100, 300, 100)));
    // The time until the answer begins is not a pause in it.
    lab.look(1000, 1, &seen(10, 20, 0, (1100, 50, 50)));
    lab.look(1350, 1, &seen(10, 20, 0, (1450, 400, 400)));
    let noted = lab.look(1400, 1, &seen(10, 30, 0, (1500, 10, 10)));
    assert_eq!(noted.history.longest_pause, 400);
    // Looked at again much later: what was sent in between came in no one knows how many bursts.
    let noted = lab.look(6400, 1, &seen(10, 90, 0, (6500, 10, 10)));
    assert_eq!(noted.history.longest_pause, 400);
    let noted = lab.look(6500, 1, &seen(20, 90, 0, (10, 110, 10)));
    assert_eq!(noted.history.longest_pause, 0);
}

#[test]
fn what_follows_session_tickets_is_no_pause_of_an_answer() {
    let mut lab = Lab::new();
    let noted = |lab: &mut Lab, verdict| {
        lab.look(0, 1, &seen(10, 10, 0, (5008, 5000, 5000)));
        lab.memory.judged(1, verdict);
        lab.look(50, 1, &seen(10, 20, 0, (5058, 5, 5)))
    };
    let asked = noted(&mut lab, Verdict::Busy(Why::Unanswered));
    assert_eq!(asked.history.longest_pause, 0);
    let mut lab = Lab::new();
    let answering = noted(&mut lab, Verdict::Busy(Why::Answering));
    // Kept in steps, rounded up: an answer is waited for rather longer than shorter.
    assert_eq!(answering.history.longest_pause, 5008);
}

#[test]
fn what_moves_on_http2_is_told_from_the_first_look_that_knows_of_it() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(100, 100, 0, (900, 800, 800)));
    lab.rule = Rule::Http2;
    // A request; but what came before its port was known is no history of frames.
    let flow = lab
        .look(50, 1, &seen(400, 100, 0, (20, 850, 20)))
        .history
        .flow;
    assert_eq!(flow.map(|flow| flow.last), Some(Last::Unknown));
    let flow = lab
        .look(100, 1, &seen(700, 100, 0, (30, 900, 30)))
        .history
        .flow;
    assert_eq!(
        flow.map(|flow| (flow.last, flow.quiet)),
        Some((Last::Asked, 30))
    );
    // A ping moves nothing.
    let flow = lab.look(200, 1, &seen(717, 117, 0, (5, 5, 5))).history.flow;
    assert_eq!(
        flow.map(|flow| (flow.last, flow.quiet, flow.controls)),
        Some((Last::Asked, 130, 17))
    );
}

#[test]
fn a_connection_takes_28_bytes_whatever_it_speaks() {
    assert_eq!(size_of::<Entry>(), 28);
}

#[test]
fn what_a_whole_look_does_not_see_is_forgotten() {
    let mut lab = Lab::new();
    lab.look(0, 1, &seen(1, 1, 0, (5, 5, 5)));
    lab.look(50, 2, &seen(1, 1, 0, (5, 5, 5)));
    assert_eq!(lab.memory.len(), 1);
}
