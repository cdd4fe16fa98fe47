use anyhow::{Result, ensure};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::host::Ended;
use e2e::product::{self, CONFIG};
use e2e::programs::Program;
use e2e::site::{FIRST, Site};

use crate::Case;
use crate::drill::{SUPERVISOR, end, under_load};

/// Programs that nobody reaches but over a proxy on the same host.
pub(crate) const CASES: &[(&str, Case)] = &[
    (
        "a_program_on_a_unix_socket_behind_nginx_drops_nothing",
        poweroff,
    ),
    ("a_proxy_before_a_unix_socket_is_found", restart),
];

/// Two units make one drain: neither may stop before it is over.
const BOTH: &str = "units = [\"supervisor.service\", \"nginx.service\"]\n[pool.consul]\n";

fn poweroff(case: &str, parts: &Parts) -> Result<()> {
    let programs = [Program::BehindNginx, Program::Gunicorn];
    let mut site = Site::start(parts, &programs, Tokens::Ignored)?;
    let host = &site.hosts[0];
    host.write(CONFIG, BOTH)?;
    product::install(host, parts)?;
    let status = host.exec(&["drainctl", "status"])?;
    for line in ["listens  app on /run/app.sock", "on port 8000"] {
        ensure!(status.contains(line), "{line:?} is not in {status}");
    }
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

/// Nobody named nginx: that it hands requests on to the program is seen.
fn restart(case: &str, parts: &Parts) -> Result<()> {
    let programs = [Program::BehindNginx, Program::Gunicorn];
    let mut site = Site::start(parts, &programs, Tokens::Ignored)?;
    product::install(&site.hosts[0], parts)?;
    under_load(case, &mut site, |site| {
        let status = site.first().exec(&["drainctl", "status"])?;
        let line = "listens  nginx on port 8000";
        ensure!(status.contains(line), "{line:?} is not in {status}");
        site.first().exec(&["systemctl", "restart", SUPERVISOR])?;
        site.wait_serving(FIRST)
    })
}
