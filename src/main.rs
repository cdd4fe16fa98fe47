//! Parses, runs, and owns the only ordinary exit of the process.

use std::process;

use clap::Parser;
use drainctl::cli::{self, Opts};

fn main() {
    // Before anything else takes memory or a thread: it stays for as long as its program runs.
    if let Some(code) = cli::keeper() {
        process::exit(code.into())
    }
    let opts = Opts::parse();
    // Threads that are stuck in a call must not hold the process: it ends here, whatever they do.
    process::exit(opts.run().into())
}
