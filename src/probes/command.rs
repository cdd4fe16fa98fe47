//! A program of the host's own that prints how many requests are in flight, as one whole number. It is started once a question, without a shell and with
//! nothing of our environment, and ends by the deadline or is killed with all its children.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, Probe};
use crate::config::Section;
use crate::text::one_line;
use crate::world::{Deadline, Root, exec};

/// The command's line in the table of probes.
pub(super) const KIND: Kind = Kind {
    name: "command",
    about: "a program of the host's own that prints a number",
    settings,
    build,
};

/// So much of what it prints is shown, in characters.
const SHOWN: usize = 80;

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
    } else if let Some(root) = section.root()
        && let Err(error) = std::fs::metadata(root.path(program))
    {
        section.environment("argv", error);
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> anyhow::Result<Box<dyn Probe>> {
    Ok(Box::new(Program(Settings::deserialize(settings)?.argv)))
}

struct Program(Vec<String>);

impl Probe for Program {
    fn count(&self, _: &Root, deadline: Deadline) -> anyhow::Result<u64> {
        let argv: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let program = argv.first().copied().unwrap_or_default().to_owned();
        let output = exec::run(&argv, None, deadline).with_context(|| program.clone())?;
        let said = |bytes: &[u8]| one_line(String::from_utf8_lossy(bytes).trim(), SHOWN);
        ensure!(
            output.status.success(),
            "{program}: {}: {}",
            output.status,
            said(&output.stderr)
        );
        let text = said(&output.stdout);
        text.parse()
            .with_context(|| format!("{program}: {text:?} is no whole number"))
    }
}
