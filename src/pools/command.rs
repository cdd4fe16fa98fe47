//! A program of the host's own that knows how to leave some place: for whatever has no pool here.
//!
//! It is started once a call, without a shell and with nothing of our environment, gets one line of JSON on its standard input and ends by the
//! call's deadline or is killed with all its children:
//!
//! | line | what it writes to standard output |
//! |---|---|
//! | `{"version":1,"verb":"prepare"}` | any JSON: what `rejoin` would have to restore. It has changed nothing |
//! | `{"version":1,"verb":"leave","before":…}` | nothing. Where somebody else had taken the host out, it has changed nothing |
//! | `{"version":1,"verb":"status"}`, maybe with `before` | `{"membership":"in"}`, `leaving`, `out` or `not-member`; with `"failing":"why"` while the checks fail, and `"peers":2` where it knows how many others are healthy |
//! | `{"version":1,"verb":"rejoin","before":…}` | nothing, or `{"left-alone":"whose mark"}` |
//!
//! `before` is what `prepare` wrote. A program that could not do it ends with another exit status than 0; it may say why as
//! `{"error":"text","kind":"refused"}`, with the kinds of [`PoolErrorKind`], or in the first line of its standard error.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::anyhow;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mark::one_line;
use super::{Context, Health, Kind, Membership, Peers, Pool, PoolError, PoolErrorKind, Rejoined};
use crate::config::Section;
use crate::world::exec::{self, ExecError};

/// The command's line in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "command",
    about: "asks a program of the host's own, with JSON in and out",
    settings,
    build,
    find: None,
};

/// The most that a receipt keeps for it, in bytes.
const LARGEST: usize = 64 << 10;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    argv: Vec<String>,
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    let program = settings.argv.first().map_or("", String::as_str);
    if !program.starts_with('/') {
        section.fault("argv", "must begin with the absolute path of a program");
    } else if let Some(root) = section.root() {
        match std::fs::metadata(root.path(program)) {
            Err(error) => section.environment("argv", error),
            Ok(meta) if !meta.is_file() || meta.mode() & 0o111 == 0 => {
                section.environment("argv", "is no program; `chmod +x` it");
            }
            Ok(meta) if meta.mode() & 0o002 != 0 => {
                section.environment("argv", "can be changed by every user; `chmod o-w` it");
            }
            Ok(_) => {}
        }
    }
    if settings.argv.iter().any(|word| word.contains('\0')) {
        section.fault("argv", "must not hold the character 0");
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings).map_err(local)?;
    let mut argv = settings.argv.into_iter();
    let program = argv
        .next()
        .ok_or_else(|| local(anyhow!("argv names no program")))?;
    Ok(Box::new(Program {
        program,
        arguments: argv.collect(),
    }))
}

fn local(error: impl Into<anyhow::Error>) -> PoolError {
    PoolError::new(PoolErrorKind::Local, error)
}

struct Program {
    program: String,
    arguments: Vec<String>,
}

#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    verb: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Value>,
}

#[derive(Deserialize)]
struct Status {
    membership: Membership,
    failing: Option<String>,
    peers: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Undone {
    left_alone: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
    kind: Option<PoolErrorKind>,
}

impl Program {
    fn error(&self, kind: PoolErrorKind, verb: &str, what: &str) -> PoolError {
        let what = one_line(what);
        PoolError::new(kind, anyhow!("{}: {verb}: {what}", self.program))
    }

    /// What it writes, as text.
    fn ask(
        &self,
        cx: &Context,
        verb: &'static str,
        before: Option<&Value>,
    ) -> Result<String, PoolError> {
        let question = Question {
            version: 1,
            verb,
            before,
        };
        let mut input = serde_json::to_vec(&question).map_err(local)?;
        input.push(b'\n');
        let program = cx.root.path(Path::new(&self.program));
        let program = program
            .to_str()
            .ok_or_else(|| self.error(PoolErrorKind::Local, verb, "not a path in UTF-8"))?;
        let argv: Vec<&str> = [program]
            .into_iter()
            .chain(self.arguments.iter().map(String::as_str))
            .collect();
        let output = exec::run(&argv, Some(&input), cx.deadline).map_err(|error| {
            let kind = match error {
                ExecError::TimedOut { .. } => PoolErrorKind::TimedOut,
                ExecError::TooMuch { .. } => PoolErrorKind::BadAnswer,
                ExecError::Start { .. } | ExecError::Io { .. } => PoolErrorKind::Local,
            };
            self.error(kind, verb, &error.to_string())
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let failure = serde_json::from_str(&text).unwrap_or_else(|_| Failure {
            error: one_line(&String::from_utf8_lossy(&output.stderr)),
            kind: None,
        });
        let kind = failure.kind.unwrap_or(PoolErrorKind::Local);
        let what = format!("{}: {}", output.status, one_line(&failure.error));
        Err(self.error(kind, verb, &what))
    }

    fn read<T: DeserializeOwned>(&self, verb: &str, text: &str) -> Result<T, PoolError> {
        serde_json::from_str(text)
            .map_err(|error| self.error(PoolErrorKind::BadAnswer, verb, &error.to_string()))
    }
}

impl Pool for Program {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let text = self.ask(cx, "prepare", None)?;
        if text.len() > LARGEST {
            let what = format!("more than {LARGEST} bytes to keep");
            return Err(self.error(PoolErrorKind::BadAnswer, "prepare", &what));
        }
        self.read("prepare", &text)
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        self.ask(cx, "leave", Some(before)).map(drop)
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        let text = self.ask(cx, "status", None)?;
        Ok(self.read::<Status>("status", &text)?.membership)
    }

    fn health(&self, cx: &Context, before: &Value) -> Result<Health, PoolError> {
        let text = self.ask(cx, "status", Some(before))?;
        let failing = self.read::<Status>("status", &text)?.failing;
        Ok(failing.map_or(Health::Passing, |why| Health::Failing(one_line(&why))))
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let text = self.ask(cx, "rejoin", Some(before))?;
        let undone = if text.trim().is_empty() {
            Undone::default()
        } else {
            self.read("rejoin", &text)?
        };
        Ok(match undone.left_alone {
            Some(whose) => Rejoined::LeftAlone(one_line(&whose)),
            None => Rejoined::Restored,
        })
    }

    fn peers(&self, cx: &Context) -> Result<Peers, PoolError> {
        let text = self.ask(cx, "status", None)?;
        let status: Status = self.read("status", &text)?;
        Ok(match (status.membership, status.peers) {
            (Membership::In, Some(healthy)) => {
                Peers::Untold.scarcer(healthy, healthy.max(1), &self.program)
            }
            _ => Peers::Untold,
        })
    }
}
