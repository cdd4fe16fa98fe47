use std::process::Command;

use anyhow::{Context, Result};

use crate::count::Counts;
use crate::layers::{cargo, check, target};

/// What cargo-fuzz would pass, but for the address sanitizer, which needs a nightly compiler. The parsers hold no unsafe code.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// The parsers' targets.
const TARGETS: [&str; 1] = ["answer"];
/// Each runs for so long, seconds.
const SECONDS: u32 = 30;

/// Fuzzes every parser of the kernel's bytes for a while, from real captures on. What is found is kept, and the next run begins with it.
///
/// # Errors
/// If a fuzzer can't be started.
pub(crate) fn run() -> Result<Counts> {
    let target = target()?.join("fuzz");
    // Named, so that the flags hold for the target alone and not for build scripts.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo(&[
        "build",
        "--release",
        "--locked",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]);
    build
        .args(["--target", &triple, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", FLAGS);
    if !build.status().context("starting cargo")?.success() {
        return Ok(Counts::of(false));
    }
    let mut counts = Counts::default();
    for name in TARGETS {
        let found = target.join("corpus").join(name);
        std::fs::create_dir_all(&found)?;
        let mut fuzzer = Command::new(target.join(&triple).join("release").join(name));
        fuzzer
            .arg(format!("-max_total_time={SECONDS}"))
            .args(["-print_final_stats=1", "-verbosity=0"])
            // Where what made it fail is left.
            .arg(format!("-artifact_prefix={}/", target.display()))
            .arg(&found)
            .arg("crates/sockdiag/tests/corpus");
        counts += check(fuzzer)?;
    }
    Ok(counts)
}
