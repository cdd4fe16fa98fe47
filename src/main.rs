//! Parses, runs, and owns the only ordinary exit of the process.

use std::process;

use clap::Parser;
use drainctl::cli::Opts;

fn main() {
    let opts = Opts::parse();
    // Threads that are stuck in a call must not hold the process: it ends here, whatever they do.
    process::exit(opts.run().into())
}
