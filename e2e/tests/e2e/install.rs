use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Host;
use e2e::product::{self, HOOK};
use e2e::programs::Program;
use e2e::site::{FIRST, Site};

use crate::Case;

/// What installing changes on a host, and uninstalling takes back.
pub(crate) const CASES: &[(&str, Case)] = &[(
    "install_twice_changes_nothing_and_uninstall_leaves_nothing",
    install_and_uninstall,
)];

fn install_and_uninstall(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain], Tokens::Ignored)?;
    let host = site.first();
    product::copy(host, parts)?;
    let before = files(host)?;
    host.exec(&["drainctl", "install"])?;
    let installed = files(host)?;
    host.exec(&["systemctl", "is-active", HOOK])?;
    host.exec(&["drainctl", "install"])?;
    same(&installed, &files(host)?)?;
    host.exec(&["drainctl", "uninstall"])?;
    same(&before, &files(host)?)?;
    let left = host.exec(&["systemctl", "show", "-P", "LoadState", HOOK])?;
    ensure!(left.trim() == "not-found", "the hook is {left}");
    ensure!(
        site.consul.maintenance(FIRST)?.is_empty(),
        "maintenance is left"
    );
    ensure!(site.consul.passing()? == [FIRST], "the host was drained");
    let added = installed.len() - before.len();
    figures::note(
        case,
        &format!("{added} files and links added, all taken away"),
    );
    Ok(())
}

/// Every file, link and folder that packages and administrators own; files with size and time.
fn files(host: &Host) -> Result<BTreeSet<String>> {
    let find = "find /etc /usr /var/lib /var/cache \\( -path /var/lib/consul -o -path /var/lib/systemd \\) -prune \
                -o -type d -printf '%p\\n' -o -printf '%p %s %T@ %l\\n'";
    Ok(host
        .exec(&["sh", "-c", find])?
        .lines()
        .map(str::to_owned)
        .collect())
}

fn same(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Result<()> {
    let (gone, new): (Vec<_>, Vec<_>) = (
        before.difference(after).collect(),
        after.difference(before).collect(),
    );
    ensure!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
    Ok(())
}
