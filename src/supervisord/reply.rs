//! supervisord's answer: bytes from outside, read within bounds.

use std::collections::HashMap;
use std::time::Duration;

use dxr::{FaultResponse, MethodResponse, TryFromValue, Value};
use jiff::Timestamp;

use super::{Program, State, Stop, label};

/// The deepest nesting of tags. A list of programs has nine; the XML reader recurses, so a hostile depth would end the process.
const DEEPEST: usize = 32;

/// The programs in the answer of `supervisor.getAllProcessInfo`.
pub(super) fn programs(body: &[u8]) -> Result<Vec<Program>, String> {
    rows(body)?
        .iter()
        .map(|row| {
            program(row).ok_or_else(|| "a program without name, state or process".to_owned())
        })
        .collect()
}

/// The time limits of stops in the answer of `supervisor.getAllConfigInfo`, by the programs' labels.
pub(super) fn stop_limits(body: &[u8]) -> Result<Vec<(String, Duration)>, String> {
    rows(body)?
        .iter()
        .map(|row| {
            stop_limit(row).ok_or_else(|| "a program without name or stopwaitsecs".to_owned())
        })
        .collect()
}

fn stop_limit(row: &HashMap<String, Value>) -> Option<(String, Duration)> {
    let seconds = u64::try_from(number(row, "stopwaitsecs")?).ok()?;
    let label = label(&text(row, "group")?, &text(row, "name")?);
    Some((label, Duration::from_secs(seconds)))
}

/// How each program is stopped, by the answer of `supervisor.getAllConfigInfo`, which leaves out the group.
pub(super) fn stops(body: &[u8]) -> Result<Vec<Stop>, String> {
    let stop = |row: &HashMap<String, Value>| {
        let (program, limit) = stop_limit(row)?;
        Some(Stop {
            program,
            command: text(row, "command")?,
            signal: number(row, "stopsignal")?,
            limit,
            as_group: false,
        })
    };
    // Older ones than 4.0 do not tell the command.
    Ok(rows(body)?.iter().filter_map(stop).collect())
}

/// The list of structures in an answer.
fn rows(body: &[u8]) -> Result<Vec<HashMap<String, Value>>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "not UTF-8".to_owned())?;
    if !is_shallow(text) {
        return Err("nested too deeply, or not its XML".to_owned());
    }
    // The errors of the XML crate repeat the whole text.
    let Ok(answer) = MethodResponse::from_xml(text) else {
        return Err(match FaultResponse::from_xml(text) {
            Ok(answer) => plain(answer.fault.string()),
            Err(_) => "not XML-RPC".to_owned(),
        });
    };
    Vec::try_from_value(&answer.value).map_err(|_| "not a list".to_owned())
}

fn text(row: &HashMap<String, Value>, key: &str) -> Option<String> {
    match row.get(key) {
        Some(Value::String(text)) => Some(plain(text)),
        _ => None,
    }
}

fn number(row: &HashMap<String, Value>, key: &str) -> Option<i32> {
    match row.get(key) {
        Some(&Value::Integer(number)) => Some(number),
        _ => None,
    }
}

fn program(row: &HashMap<String, Value>) -> Option<Program> {
    let text = |key| text(row, key);
    let number = |key| number(row, key);
    Some(Program {
        group: text("group")?,
        name: text("name")?,
        state: match text("statename")?.as_str() {
            "STOPPED" => State::Stopped,
            "STARTING" => State::Starting,
            "RUNNING" => State::Running,
            "BACKOFF" => State::Backoff,
            "STOPPING" => State::Stopping,
            "EXITED" => State::Exited,
            "FATAL" => State::Fatal,
            _ => State::Unknown,
        },
        pid: u32::try_from(number("pid")?).ok()?,
        started: number("start")
            .filter(|&start| start > 0)
            .and_then(|start| Timestamp::from_second(start.into()).ok()),
        description: text("description").unwrap_or_default(),
    })
}

/// Without control characters, which a terminal would obey.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Counts tags as the XML reader would. Comments, CDATA, instructions and attributes, in which a text could hide false tags, are never in
/// supervisord's answers.
fn is_shallow(text: &str) -> bool {
    let mut depth = 0_usize;
    for (at, tag) in text.split('<').skip(1).enumerate() {
        let tag = tag.split('>').next().unwrap_or_default();
        if at == 0 && tag.starts_with('?') {
            continue;
        }
        if tag.contains(['!', '?', '"', '\'']) {
            return false;
        }
        if tag.starts_with('/') {
            depth = depth.saturating_sub(1);
        } else if !tag.ends_with('/') {
            depth += 1;
        }
        if depth > DEEPEST {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As supervisord 4.2.5 writes it.
    const ANSWER: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n<value><struct>\n\
        <member>\n<name>name</name>\n<value><string>web</string></value>\n</member>\n\
        <member>\n<name>group</name>\n<value><string>shop</string></value>\n</member>\n\
        <member>\n<name>start</name>\n<value><int>1795394400</int></value>\n</member>\n\
        <member>\n<name>stop</name>\n<value><int>0</int></value>\n</member>\n\
        <member>\n<name>statename</name>\n<value><string>RUNNING</string></value>\n</member>\n\
        <member>\n<name>spawnerr</name>\n<value><string></string></value>\n</member>\n\
        <member>\n<name>pid</name>\n<value><int>77</int></value>\n</member>\n\
        <member>\n<name>description</name>\n<value><string>pid 77, uptime 0:00:10&#27;[2J</string></value>\n</member>\n\
        </struct></value>\n</data></array></value>\n</param>\n</params>\n</methodResponse>\n";

    #[test]
    fn a_program_is_read_and_its_text_made_harmless() {
        let programs = programs(ANSWER.as_bytes()).unwrap();
        assert_eq!(programs.len(), 1);
        assert_eq!(programs[0].label(), "shop:web");
        assert_eq!((programs[0].state, programs[0].pid), (State::Running, 77));
        assert_eq!(programs[0].started.unwrap().as_second(), 1_795_394_400);
        assert_eq!(programs[0].description, "pid 77, uptime 0:00:10 [2J");
    }

    #[test]
    fn the_time_limit_of_a_stop_is_read_from_the_config() {
        let answer = ANSWER
            .replace("<name>pid</name>", "<name>stopwaitsecs</name>")
            .replace("<string>RUNNING</string>", "<array><data></data></array>");
        let limits = stop_limits(answer.as_bytes()).unwrap();
        assert_eq!(limits, [("shop:web".to_owned(), Duration::from_secs(77))]);
        assert!(stop_limits(ANSWER.as_bytes()).is_err());
    }

    #[test]
    fn no_programs_is_an_empty_list_and_a_fault_is_its_text() {
        let none = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n</data></array></value>\n\
                    </param>\n</params>\n</methodResponse>\n";
        assert_eq!(programs(none.as_bytes()).unwrap(), []);
        let fault = "<?xml version='1.0'?><methodResponse><fault><value><struct>\
                     <member><name>faultCode</name><value><int>6</int></value></member>\
                     <member><name>faultString</name><value><string>SHUTDOWN_STATE</string></value></member>\
                     </struct></value></fault></methodResponse>";
        assert_eq!(programs(fault.as_bytes()).unwrap_err(), "SHUTDOWN_STATE");
    }

    #[test]
    fn a_hostile_depth_is_refused() {
        let deep = "<value><array><data>".repeat(100_000);
        let hidden = "<value><!-- </value> --><array><data a='/>'>".repeat(100_000);
        for text in [deep, hidden] {
            let text = format!("<methodResponse><params><param>{text}");
            assert_eq!(
                programs(text.as_bytes()).unwrap_err(),
                "nested too deeply, or not its XML"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer_or_an_error(bytes: Vec<u8>, at in 0..ANSWER.len(), byte: u8) {
            let _ = programs(&bytes);
            let mut mutated = ANSWER.as_bytes().to_vec();
            mutated[at] = byte;
            let _ = programs(&mutated);
            let _ = programs(&mutated[..at]);
        }
    }
}
