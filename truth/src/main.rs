//! Runs the lab. See the library.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match truth::run(&truth::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("truth: {error:#}");
            ExitCode::FAILURE
        }
    }
}
