//! What PID 1 says, as values, and the text of `systemctl` that says the same.

use std::collections::BTreeMap;
use std::time::Duration;

/// What PID 1 says of the host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// `SystemState`: running, degraded, stopping, maintenance, …
    pub system_state: String,
    /// Every job that runs or waits.
    pub jobs: Vec<Job>,
    /// The units that were asked for, in that order.
    pub units: Vec<UnitState>,
}

/// One job of PID 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: u32,
    /// The unit that it is for.
    pub unit: String,
    /// start, stop, restart, …
    pub kind: String,
    /// running or waiting.
    pub state: String,
}

/// One unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// The name that was asked for.
    pub name: String,
    /// Its real name: differs from `name` where that is an alias.
    pub id: String,
    /// loaded, not-found, masked, …
    pub load_state: String,
    /// active, activating, deactivating, inactive, failed, …
    pub active_state: String,
    /// running, exited, auto-restart, dead, …
    pub sub_state: String,
    /// The main process; 0 when none lives.
    pub main_pid: u32,
    /// Its control group as a path from the hierarchy's root; empty when it has none.
    pub control_group: String,
}

impl Snapshot {
    /// The unit that was asked for as `name`.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<&UnitState> {
        self.units.iter().find(|unit| unit.name == name)
    }

    /// The job for the unit that was asked for as `name`, also where the job bears its real name.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&Job> {
        let id = self.unit(name).map_or(name, |unit| &unit.id);
        self.jobs.iter().find(|job| job.unit == id)
    }
}

impl UnitState {
    /// Whether its main process died and systemd is about to start it again. A live unit without a main process (forking, oneshot)
    /// is active and not meant.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.main_pid == 0 && self.sub_state.starts_with("auto-restart")
    }
}

/// The properties that [`unit_state`] needs.
pub(super) const PROPERTIES: [&str; 6] = [
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "MainPID",
    "ControlGroup",
];

/// A unit from its properties. `None` when one that every unit has is missing.
pub(super) fn unit_state(name: &str, properties: &BTreeMap<String, String>) -> Option<UnitState> {
    let get = |key| properties.get(key).cloned();
    Some(UnitState {
        name: name.to_owned(),
        id: get("Id")?,
        load_state: get("LoadState")?,
        active_state: get("ActiveState")?,
        sub_state: get("SubState")?,
        // Only services have one.
        main_pid: get("MainPID").map_or(Some(0), |pid| pid.parse().ok())?,
        control_group: get("ControlGroup").unwrap_or_default(),
    })
}

/// The blocks of `systemctl show`, one a unit. A property that stands there several times (`ExecStop`) is joined by newlines.
pub(super) fn blocks(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut blocks = vec![BTreeMap::<String, String>::new()];
    for line in text.lines() {
        if line.is_empty() {
            blocks.push(BTreeMap::new());
        } else if let (Some((key, value)), Some(block)) = (line.split_once('='), blocks.last_mut())
        {
            // Commands are told in a form of their own.
            let value = match key.strip_prefix("Exec") {
                None => bare(value),
                Some(_) => value.to_owned(),
            };
            block
                .entry(key.to_owned())
                .and_modify(|old| {
                    old.push('\n');
                    old.push_str(&value);
                })
                .or_insert(value);
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// A list without the quotes that `systemctl` puts around names with a backslash, which it doubles there.
fn bare(value: &str) -> String {
    if !value.contains('"') {
        return value.to_owned();
    }
    let word = |word: &str| {
        let quoted = word
            .strip_prefix('"')
            .and_then(|word| word.strip_suffix('"'));
        quoted.map_or(word.to_owned(), |word| word.replace("\\\\", "\\"))
    };
    let words: Vec<String> = value.split(' ').map(word).collect();
    words.join(" ")
}

/// The jobs of `systemctl list-jobs --no-legend`; other lines ("No jobs running.") are none.
pub(super) fn jobs(text: &str) -> Vec<Job> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [id, unit, kind, state] = fields[..] else {
                return None;
            };
            Some(Job {
                id: id.parse().ok()?,
                unit: unit.to_owned(),
                kind: kind.to_owned(),
                state: state.to_owned(),
            })
        })
        .collect()
}

/// A property of one of `units`; empty where either is not there.
#[must_use]
pub fn property<'a>(units: &'a super::order::Units, unit: &str, key: &str) -> &'a str {
    let unit = units.get(unit);
    unit.and_then(|unit| unit.get(key))
        .map_or("", String::as_str)
}

/// A time span as `systemctl show` writes it: `1min 30s`, `5.500000s`, `infinity` as [`Duration::MAX`].
#[must_use]
pub fn time_span(text: &str) -> Option<Duration> {
    if text == "infinity" {
        return Some(Duration::MAX);
    }
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    let mut parts = text.split(' ').peekable();
    parts.peek().filter(|part| !part.is_empty())?;
    for part in parts {
        let unit = part.find(|c: char| c.is_ascii_alphabetic())?;
        let number: f64 = part[..unit].parse().ok()?;
        // systemd.time(7).
        let seconds = match &part[unit..] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "month" => 2_629_800.0,
            "y" => 31_557_600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    Some(sum)
}

/// Whether `name` can name a unit (systemd.unit(5)): known characters, a known type, at most 255 bytes.
#[must_use]
pub fn is_unit_name(name: &str) -> bool {
    const TYPES: [&str; 11] = [
        "service",
        "socket",
        "device",
        "mount",
        "automount",
        "swap",
        "target",
        "path",
        "timer",
        "slice",
        "scope",
    ];
    name.len() <= 255
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
        && name
            .rsplit_once('.')
            .is_some_and(|(stem, kind)| !stem.is_empty() && TYPES.contains(&kind))
}

/// The unit to which a control group belongs: the outermost part of its path that is no slice. `None` for the root and for slices.
#[must_use]
pub fn unit_of_control_group(path: &str) -> Option<&str> {
    path.split('/')
        // A leading underscore protects names that the kernel could take for its own files.
        .map(|part| part.strip_prefix('_').unwrap_or(part))
        .find(|part| !part.is_empty() && !part.ends_with(".slice"))
        .filter(|part| is_unit_name(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_show_become_units() {
        let text = "Id=supervisor.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=99\n\
                    ControlGroup=/system.slice/supervisor.service\nExecStop={ path=/a ; argv[]=/a b=c }\nExecStop={ path=/b }\n\n\
                    Id=nope.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nMainPID=0\n";
        let blocks = blocks(text);
        assert_eq!(
            blocks[0]["ExecStop"],
            "{ path=/a ; argv[]=/a b=c }\n{ path=/b }"
        );
        let unit = unit_state("supervisord.service", &blocks[0]).unwrap();
        assert_eq!(
            (unit.id.as_str(), unit.main_pid),
            ("supervisor.service", 99)
        );
        assert_eq!(
            unit_state("nope.service", &blocks[1])
                .unwrap()
                .control_group,
            ""
        );
        assert_eq!(unit_state("x.service", &BTreeMap::new()), None);
    }

    #[test]
    fn names_with_a_backslash_are_read_as_they_are() {
        let text = "Id=a-b\\x2dc.mount\nAfter=x.target \"a-b\\\\x2dc.mount\" y.target\nExecStop={ argv[]=/a \"b\" }";
        let block = blocks(text).remove(0);
        assert_eq!(block["Id"], r"a-b\x2dc.mount");
        assert_eq!(block["After"], r"x.target a-b\x2dc.mount y.target");
        assert_eq!(block["ExecStop"], r#"{ argv[]=/a "b" }"#);
    }

    #[test]
    fn only_lines_that_are_jobs_are_jobs() {
        let found = jobs(
            "  12 a.service stop running\n 13 poweroff.target  start waiting\nNo jobs running.\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].unit, "poweroff.target");
        assert_eq!(found[1].kind, "start");
        assert_eq!(found[1].state, "waiting");
    }

    #[test]
    fn the_unit_of_a_control_group_is_its_outermost() {
        for (path, unit) in [
            (
                "/system.slice/supervisor.service",
                Some("supervisor.service"),
            ),
            ("/system.slice/a.service/sub/deep", Some("a.service")),
            (
                "/system.slice/system-x.slice/x@1.service",
                Some("x@1.service"),
            ),
            (
                "/user.slice/user-0.slice/session-1.scope",
                Some("session-1.scope"),
            ),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/b.service",
                Some("user@1.service"),
            ),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            ("/system.slice", None),
            ("/docker/0123", None),
            ("/", None),
        ] {
            assert_eq!(unit_of_control_group(path), unit, "{path}");
        }
    }

    #[test]
    fn names_that_would_be_options_or_paths_are_no_units() {
        for name in [
            "supervisor",
            ".service",
            "a b.service",
            "../a.service",
            "a.conf",
            "a\n.service",
        ] {
            assert!(!is_unit_name(name), "{name:?}");
        }
        assert!(is_unit_name("sys-a\\x2db.service"));
        assert!(is_unit_name("x@1.service"));
    }

    #[test]
    fn time_spans_are_read_as_systemd_writes_them() {
        for (text, seconds) in [
            ("1min 30s", Some(90.0)),
            ("30min", Some(1800.0)),
            ("1h 500ms", Some(3600.5)),
            ("1.500000s", Some(1.5)),
            ("0", Some(0.0)),
            ("", None),
            ("90", None),
            ("1min 30x", None),
        ] {
            let read = time_span(text).map(|span| span.as_secs_f64());
            assert_eq!(read, seconds, "{text:?}");
        }
        assert_eq!(time_span("infinity"), Some(Duration::MAX));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_fault(text: String) {
            let _ = time_span(&text);
            jobs(&text);
            for block in blocks(&text) {
                unit_state("a.service", &block);
            }
            if let Some(unit) = unit_of_control_group(&text) {
                assert!(is_unit_name(unit));
            }
        }
    }
}
