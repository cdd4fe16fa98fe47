//! The cases: what must hold on a booted host under load.

mod baseline;
mod breakages;
mod broken;
mod control;
mod doctor;
mod drill;
mod firewall;
mod hold;
mod install;
mod kinds;
mod locals;
mod long;
mod newer;
mod order;
mod pools;
mod quiet;
mod registry;
mod rehearse;
mod run;
mod seldom;
mod shutdown;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use e2e::enter::{self, Parts};
use e2e::figures;
use libtest_mimic::{Arguments, Failed, Trial};

/// Cases that run side by side; most of their time they wait.
const THREADS: usize = 3;

/// A case's body.
type Case = fn(&str, &Parts) -> Result<()>;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(THREADS));
    let cases = [
        shutdown::CASES,
        long::CASES,
        registry::CASES,
        broken::CASES,
        firewall::CASES,
        pools::CASES,
        locals::CASES,
        quiet::CASES,
        control::CASES,
        install::CASES,
        doctor::CASES,
        order::CASES,
        hold::CASES,
        newer::CASES,
        rehearse::CASES,
        run::CASES,
        baseline::CASES,
    ]
    .concat();
    let parts = match Parts::from_env() {
        Ok(parts) => parts,
        Err(_) if args.list => Parts {
            root: "-".into(),
            newer: "-".into(),
            drainctl: "-".into(),
        },
        Err(why) => {
            for (name, _) in &cases {
                eprintln!("SKIPPED e2e {name}: {why}");
            }
            return ExitCode::SUCCESS;
        }
    };
    if !args.list && enter::run_dir().is_none() {
        return enter::again_inside().unwrap_or_else(|error| {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        });
    }
    if !args.list
        && let Err(error) = enter::private_run()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let trials = cases
        .into_iter()
        .map(|(name, case)| trial(name, case, parts.clone()))
        .collect();
    let conclusion = libtest_mimic::run(&args, trials);
    println!("{}", figures::table());
    conclusion.exit_code()
}

fn trial(name: &'static str, case: Case, parts: Parts) -> Trial {
    Trial::test(name, move || {
        let began = Instant::now();
        let ended = case(name, &parts);
        figures::took(name, began.elapsed());
        ended.map_err(|error| Failed::from(format!("{error:#}")))
    })
}
