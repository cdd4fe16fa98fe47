//! A supervisord that can't be asked about its programs, by the hook or by anybody.

use super::super::Severity::Info;
use super::super::{Facts, Finding};

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let Some(why) = &facts.around.sight.names else {
        return Vec::new();
    };
    let what = "supervisord can't be asked: how long it lets programs end is not known to this report, drains don't tell them by name, and the way \
                back goes by their ports alone";
    vec![Finding::new(Info, what).seen("supervisord", "", why).hand(
        "let its config have [unix_http_server] with `file=/run/supervisor.sock`, and restart it where that is new",
    )]
}
