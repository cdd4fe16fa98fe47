use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::count::{Counts, counted};
use crate::tools::CargoDeny;
use crate::{envoy, fuzz, machine, moto, provision};

/// The parts of the test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layer {
    /// The machine's packages and the root file system of the lab's hosts.
    Provision,
    /// rustfmt.
    Fmt,
    /// clippy, with warnings as errors.
    Clippy,
    /// Unit, golden, kernel and black-box tests.
    Test,
    /// The kernel's bytes under libFuzzer, for half a minute.
    Fuzz,
    /// Verdicts against what servers know, for half a minute.
    Truth,
    /// Booted hosts under load.
    E2e,
    /// Dependencies: bans, licences, sources.
    Deny,
}

/// What layers hand to later ones.
struct Run<'a> {
    filter: Option<&'a str>,
    only: Option<Layer>,
    root: Option<PathBuf>,
    newer: Option<PathBuf>,
}

/// Runs the layers that are asked for, and counts.
pub(crate) fn run(filter: Option<&str>, only: Option<Layer>) -> Counts {
    let mut run = Run {
        filter,
        only,
        root: None,
        newer: None,
    };
    let mut counts = Counts::default();
    let deny = run.wants(Layer::Deny).then(CargoDeny::prepare);
    // Tests against real servers take them from the root file system too.
    let real = [Layer::Provision, Layer::Test, Layer::Truth, Layer::E2e];
    if real.into_iter().any(|layer| run.wants(layer)) {
        counts += run.provision();
    }
    if run.wants(Layer::Fmt) {
        counts += layer(Layer::Fmt, || check(cargo(&["fmt", "--all", "--check"])));
    }
    if run.wants(Layer::Clippy) {
        let clippy = cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]);
        counts += layer(Layer::Clippy, || check(clippy));
    }
    if run.wants(Layer::Test) {
        counts += layer(Layer::Test, || run.tests());
    }
    if run.wants(Layer::Fuzz) {
        counts += layer(Layer::Fuzz, fuzz::run);
    }
    if run.wants(Layer::Truth) {
        counts += layer(Layer::Truth, truth_layer);
    }
    if run.wants(Layer::E2e) {
        counts += layer(Layer::E2e, || run.e2e());
    }
    if let Some(deny) = deny {
        counts += layer(Layer::Deny, || check(deny?.command()?));
    }
    counts
}

impl Run<'_> {
    /// With a filter there are only tests to choose from.
    fn wants(&self, layer: Layer) -> bool {
        match self.only {
            Some(only) => only == layer,
            None => self.filter.is_none() || matches!(layer, Layer::Test | Layer::E2e),
        }
    }

    fn provision(&mut self) -> Counts {
        if let Some(why) = machine::unfit() {
            eprintln!("SKIPPED provision: {why}");
            return Counts {
                skipped: 1,
                ..Counts::default()
            };
        }
        layer(Layer::Provision, || {
            self.root = Some(provision::root(&provision::BOOKWORM)?);
            self.newer = Some(provision::root(&provision::TRIXIE)?);
            envoy::provide()?;
            moto::provide()?;
            Ok(Counts::of(true))
        })
    }

    fn tests(&self) -> Result<Counts> {
        let mut tests = cargo(&[
            "test",
            "--workspace",
            "--exclude",
            "e2e",
            "--locked",
            "--no-fail-fast",
        ]);
        if let Some(root) = &self.root {
            tests.env("LAB_ROOT", root);
        }
        counted(tests.arg("--").args(self.filter))
    }

    fn e2e(&self) -> Result<Counts> {
        let (Some(root), Some(newer)) = (&self.root, &self.newer) else {
            eprintln!("SKIPPED e2e: needs the lab's root file systems, see above");
            return Ok(Counts {
                skipped: 1,
                ..Counts::default()
            });
        };
        let mut build = cargo(&["build", "--release", "--locked", "--package", "drainctl"]);
        if !build.status()?.success() {
            return Ok(Counts::of(false));
        }
        let mut cases = cargo(&["test", "--locked", "--package", "e2e"]);
        cases
            .env("LAB_ROOT", root)
            .env("LAB_ROOT_TRIXIE", newer)
            .env("LAB_DRAINCTL", target()?.join("release/drainctl"));
        counted(cases.arg("--").args(self.filter))
    }
}

/// One layer under its headline; what stops it counts as one failure.
fn layer(layer: Layer, run: impl FnOnce() -> Result<Counts>) -> Counts {
    let name = layer
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    eprintln!("\n== {name} ==");
    let began = Instant::now();
    let mut counts = run().unwrap_or_else(|error| {
        eprintln!("{error:#}");
        Counts::of(false)
    });
    eprintln!("== {name}: {counts}, {} s ==", began.elapsed().as_secs());
    if counts.failed > 0 && counts.failures.is_empty() {
        counts.failures.push("see there".to_owned());
    }
    for failure in &mut counts.failures {
        *failure = format!("{name}: {failure}");
    }
    counts
}

/// Needs a proxy between to be worth its time.
fn truth_layer() -> Result<Counts> {
    if let Some(why) = machine::without("haproxy") {
        eprintln!("SKIPPED truth: {why}");
        return Ok(Counts {
            skipped: 1,
            ..Counts::default()
        });
    }
    counted(truth()?.arg("--short"))
}

/// The ground-truth lab: optimised, since a slow look is one at another moment.
///
/// # Errors
/// If there is no cache.
pub(crate) fn truth() -> Result<Command> {
    let mut truth = cargo(&["run", "--quiet", "--release", "--locked"]);
    truth
        .args(["--package", "truth", "--"])
        .env("PATH", envoy::path()?);
    Ok(truth)
}

pub(crate) fn check(mut command: Command) -> Result<Counts> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    Ok(Counts::of(status.success()))
}

pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(words);
    // They name this package. Build scripts that look at them (ring's) would run anew, and what follows, each time that cargo is run by
    // hand and from here in turn.
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if ours {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The build directory that this program itself was built in.
pub(crate) fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own
        .parent()
        .and_then(|profile| profile.parent())
        .context("no build directory above this program")?;
    Ok(target.to_owned())
}
