//! The project's own commands; `cargo xtask test` is all that CI runs.

mod count;
mod envoy;
mod fuzz;
mod layers;
mod machine;
mod moto;
mod provision;
mod tools;
mod wheels;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::layers::Layer;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs every check and test; as root it first installs what they need.
    Test {
        /// Runs only the tests whose name holds this, and none of the checks.
        #[arg(long)]
        filter: Option<String>,
        /// Runs only this layer.
        #[arg(long)]
        only: Option<Layer>,
    },
    /// Compares the verdicts with what servers know, behind each proxy that is installed; its own options follow.
    Truth {
        /// `--help` tells them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<std::ffi::OsString>,
    },
}

fn main() -> ExitCode {
    let (filter, only) = match Options::parse().verb {
        Verb::Test { filter, only } => (filter, only),
        Verb::Truth { options } => return truth(&options),
    };
    let counts = layers::run(filter.as_deref(), only);
    let strict = std::env::var_os("CI").is_some_and(|value| value == "true");
    if strict && counts.skipped > 0 {
        eprintln!("what is skipped counts as failed here, because CI=true");
    }
    if counts.passed + counts.failed == 0 {
        eprintln!("nothing ran");
    }
    for failure in &counts.failures {
        println!("FAILED {failure}");
    }
    println!("{counts}");
    let good = counts.failed == 0 && counts.passed > 0 && !(strict && counts.skipped > 0);
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn truth(options: &[std::ffi::OsString]) -> ExitCode {
    let status = layers::truth().and_then(|mut truth| Ok(truth.args(options).status()?));
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("truth: {error:#}");
            ExitCode::FAILURE
        }
    }
}
