//! The text of our units. Pure: every line that orders, binds or limits stands here with its reason, and `dist/` holds the result.

mod held;

use std::fmt::Write;

pub use held::{Held, KEPT, drop_ins, entries, order, order_path};

use super::{HOLD, HOLD_TIMER, HOOK, REJOIN};
use crate::receipts::RECEIPTS;

/// What differs between hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where this program lies, absolute.
    pub binary: String,
    /// The units that must not be stopped before the drain is over. At least one.
    pub targets: Vec<String>,
    /// Folders outside our own in which files are written, absolute.
    pub writable: Vec<String>,
    /// Whether a pool refuses connections in the kernel.
    pub firewall: bool,
    /// Whether everything else is held until the drain is over.
    pub hold: bool,
}

/// What every drain needs, where it is there: the registry, the network, names, remote files, and the bus that tells why it is asked for.
pub const ALWAYS: [&str; 8] = [
    "consul.service",
    "network.target",
    "network-online.target",
    "systemd-resolved.service",
    "nss-lookup.target",
    "remote-fs.target",
    "dbus.service",
    "dbus.socket",
];

impl Default for Layout {
    /// What a package ships: both names in use for supervisord's unit.
    fn default() -> Self {
        Self {
            binary: "/usr/bin/drainctl".to_owned(),
            targets: vec![
                "supervisor.service".to_owned(),
                "supervisord.service".to_owned(),
            ],
            writable: Vec::new(),
            firewall: false,
            hold: true,
        }
    }
}

/// The unit whose stop is the drain.
#[must_use]
pub fn hook(layout: &Layout) -> String {
    let targets = layout.targets.join(" ");
    let binary = word(&layout.binary);
    let (needed, bus) = ALWAYS.split_at(6);
    let mut unit = Unit::default();
    unit.section("Unit");
    if layout.hold {
        unit.set(
            "everything else that runs here outlives the drain by way of this unit; inactive, it neither holds nor delays anything",
            "After",
            HOLD,
        );
    }
    if layout.firewall {
        unit.set(
            "its stop flushes all rules, ours too, and would let new connections in again",
            "After",
            "nftables.service",
        );
    }
    unit.set("", "Description", "Drain in-flight requests before their programs are stopped")
        .set("", "Documentation", env!("CARGO_PKG_REPOSITORY"))
        .set("stop before these: systemd stops in the reverse order of After=", "After", &targets)
        .set(
            "their stop and restart reach us too; what to do then is decided when it happens, from the cause",
            "PartOf",
            &targets,
        )
        .set(
            "these must outlive the drain: the registry, the network, names, remote files; one that is missing does no harm",
            "After",
            &needed.join(" "),
        )
        .set(
            "the bus tells why we are stopped; its service counts, since the socket alone outlives the daemon",
            "After",
            &bus.join(" "),
        )
        .set(
            "started as often as its units are restarted: one that is refused its start drains nothing at the next stop",
            "StartLimitIntervalSec",
            "0",
        )
        .section("Service")
        .set("", "Type", "oneshot")
        .set("without it the drain would run right at boot", "RemainAfterExit", "yes")
        .set("must neither fail nor take time: otherwise nothing is drained at shutdown", "ExecStart", "/bin/true")
        .set("one command only: a second would be skipped when the first fails", "ExecStop", &format!("{binary} drain"))
        .set(
            "a dead-man switch and not the deadline: the drain extends it while it is alive",
            "TimeoutStopSec",
            "90s",
        )
        .set("lets the command of ExecStop say so", "NotifyAccess", "exec")
        .set("the last process that should be sacrificed", "OOMScoreAdjust", "-900");
    sandbox(&mut unit, layout);
    unit.section("Install").set(
        "started with them, also when they are stopped and started",
        "WantedBy",
        &targets,
    );
    unit.text
}

/// The unit that takes the host back.
#[must_use]
pub fn rejoin(layout: &Layout) -> String {
    let targets = layout.targets.join(" ");
    let binary = word(&layout.binary);
    let mut unit = Unit::default();
    unit.section("Unit")
        .set(
            "",
            "Description",
            "Take the host back into its pools once its programs are up",
        )
        .set("", "Documentation", env!("CARGO_PKG_REPOSITORY"))
        .set(
            "stopped before the drain begins, so that the two never work against each other",
            "After",
            &format!("{HOOK} {targets}"),
        )
        .set(
            "where the pools are asked",
            "After",
            "consul.service network-online.target nss-lookup.target",
        )
        .set("restarted together with the hook", "PartOf", HOOK)
        .set(
            "nothing to do unless a drain left a receipt",
            "ConditionPathExists",
            RECEIPTS,
        )
        .set(
            "keep trying: a pool may take seconds or minutes to be there",
            "StartLimitIntervalSec",
            "0",
        )
        .section("Service")
        .set(
            "holds up neither the boot nor a restart of the programs",
            "Type",
            "exec",
        )
        .set(
            "waits until the programs are up, undoes exactly what the receipts say, removes them",
            "ExecStart",
            &format!("{binary} rejoin"),
        )
        .set("", "Restart", "on-failure")
        .set("", "RestartSec", "2s")
        .set("a drain waits for our end", "TimeoutStopSec", "5s");
    sandbox(&mut unit, layout);
    unit.section("Install").set("", "WantedBy", HOOK);
    unit.text
}

/// The unit that is stopped after the hook, and before everything that the boot starts: nothing but two orders.
#[must_use]
pub fn hold() -> String {
    let mut unit = Unit::default();
    unit.section("Unit")
        .set(
            "",
            "Description",
            "Hold what runs here until requests in flight are drained",
        )
        .set("", "Documentation", env!("CARGO_PKG_REPOSITORY"))
        .set(
            "what a boot starts is ordered before these, whenever it was installed: they are stopped before it, and after us",
            "After",
            &super::hold::BOOT.join(" "),
        )
        .set(
            "a way into rescue mode stops us with what we hold; a change to another target leaves both alone",
            "PartOf",
            super::hold::BOOT[0],
        )
        .set("", "IgnoreOnIsolate", "yes")
        .section("Service")
        .set("", "Type", "oneshot")
        .set("only what is active has its place in the order of a stop", "RemainAfterExit", "yes")
        .set("", "ExecStart", "/bin/true");
    unit.text
}

/// The unit that starts [`hold`].
#[must_use]
pub fn hold_timer() -> String {
    let after = super::hold::BOOT.join(" ");
    let mut unit = Unit::default();
    unit.section("Unit")
        .set("", "Description", "Hold what runs here once the boot is over")
        .set("", "Documentation", env!("CARGO_PKG_REPOSITORY"))
        .set(
            "the default orders of a timer would put it before the boot's end, and after it: a circle",
            "DefaultDependencies",
            "no",
        )
        .set("", "Conflicts", "shutdown.target")
        .set("", "Before", "shutdown.target")
        .set(
            "not earlier: while the hold waits to be started the hook would wait for it, and a boot that hangs would not be drained",
            "After",
            &after,
        )
        .section("Timer")
        .set("", "OnActiveSec", "0")
        .set("", "AccuracySec", "1ms")
        .set("", "Unit", HOLD)
        .section("Install")
        .set("", "WantedBy", super::hold::BOOT[0]);
    unit.text
}

/// The lines that both share: where they write, and all that they are denied.
fn sandbox(unit: &mut Unit, layout: &Layout) {
    unit.set(
        "receipts: they survive a reboot",
        "StateDirectory",
        "drainctl",
    )
    .set("", "StateDirectoryMode", "0750")
    .set(
        "the lock, the running drain, the default health file: kept after the stop",
        "RuntimeDirectory",
        "drainctl",
    )
    .set("", "RuntimeDirectoryPreserve", "yes")
    .set(
        "a balancer's check must be able to read the health file; secrets have modes of their own",
        "UMask",
        "0022",
    );
    if !layout.writable.is_empty() {
        let paths: Vec<String> = layout
            .writable
            .iter()
            .map(|path| word(&format!("-{path}")))
            .collect();
        unit.set(
            "health files and metrics that the config names; a folder that is missing must not fail the unit",
            "ReadWritePaths",
            &paths.join(" "),
        );
    }
    unit.set(
        "see the sockets of other users' processes, and reach control sockets and health files that belong to others",
        "CapabilityBoundingSet",
        "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE",
    );
    if layout.firewall {
        unit.set(
            "a pool of the config refuses new connections in the kernel: nft needs it for a table",
            "CapabilityBoundingSet",
            "CAP_NET_ADMIN",
        );
    }
    unit.set("", "NoNewPrivileges", "yes")
    .set("", "ProtectSystem", "strict")
    .set(
        "readable: supervisord's config or a token may lie there; for the same reason no PrivateTmp=, supervisor.sock's usual place",
        "ProtectHome",
        "read-only",
    )
    .set("", "ProtectProc", "invisible")
    .set("", "PrivateDevices", "yes")
    .set("", "ProtectClock", "yes")
    .set("", "ProtectHostname", "yes")
    .set("", "ProtectKernelLogs", "yes")
    .set("", "ProtectKernelModules", "yes")
    .set("", "ProtectKernelTunables", "yes")
    .set("", "ProtectControlGroups", "yes")
    .set(
        "netlink: the kernel's sockets; unix: the bus, supervisord, notifications",
        "RestrictAddressFamilies",
        "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    )
    .set("", "RestrictNamespaces", "yes")
    .set("", "RestrictRealtime", "yes")
    .set("", "RestrictSUIDSGID", "yes")
    .set("", "LockPersonality", "yes")
    .set("", "MemoryDenyWriteExecute", "yes")
    .set("", "KeyringMode", "private")
    .set("", "SystemCallArchitectures", "native")
    .set("", "SystemCallFilter", "@system-service")
    .set("", "SystemCallFilter", "~@privileged @resources")
    .set("", "SystemCallErrorNumber", "EPERM");
}

/// Where a unit of ours is installed: the administrator's own folder, since no package owns it.
#[must_use]
pub fn path(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// All units of ours, the hook first.
pub const UNITS: [&str; 4] = [HOOK, REJOIN, HOLD, HOLD_TIMER];

#[derive(Default)]
struct Unit {
    text: String,
}

impl Unit {
    fn section(&mut self, name: &str) -> &mut Self {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}[{name}]");
        self
    }

    /// A line, with its reason above it unless that is empty. The value has been escaped where it needs it.
    fn set(&mut self, why: &str, key: &str, value: &str) -> &mut Self {
        if !why.is_empty() {
            let _ = writeln!(self.text, "# {why}");
        }
        let _ = writeln!(self.text, "{key}={value}");
        self
    }
}

/// One path as one word of a value (systemd.syntax(7), systemd.unit(5) "Specifiers"): percent signs doubled, and quoted with C escapes where
/// it holds anything unusual.
fn word(path: &str) -> String {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.,+@:=%".contains(&byte);
    let path = path.replace('%', "%%");
    if path.bytes().all(usual) {
        return path;
    }
    let mut word = String::from("\"");
    for byte in path.bytes() {
        if usual(byte) || byte == b' ' {
            word.push(char::from(byte));
        } else if byte == b'$' {
            // systemd fills in variables in commands, and knows no other way to say a dollar sign.
            word.push_str("$$");
        } else {
            let _ = write!(word, "\\x{byte:02x}");
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Compares with the file under `dist/`; `BLESS=1 cargo test` writes it.
    fn golden(name: &str, text: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("dist/usr/lib/systemd/system")
            .join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            kept,
            "{} is not what the code renders",
            path.display()
        );
    }

    #[test]
    fn dist_holds_what_is_rendered() {
        golden(HOOK, &hook(&Layout::default()));
        golden(REJOIN, &rejoin(&Layout::default()));
        golden(HOLD, &hold());
        golden(HOLD_TIMER, &hold_timer());
    }

    #[test]
    fn what_was_found_stands_in_every_line_that_needs_it() {
        let layout = Layout {
            binary: "/opt/50% off/drainctl".to_owned(),
            targets: vec!["app@1.service".to_owned(), "b.service".to_owned()],
            writable: vec!["/srv/www".to_owned(), "/srv/a b".to_owned()],
            firewall: true,
            hold: true,
        };
        let text = hook(&layout);
        for line in [
            "After=app@1.service b.service",
            "PartOf=app@1.service b.service",
            "WantedBy=app@1.service b.service",
            "ExecStop=\"/opt/50%% off/drainctl\" drain",
            "ReadWritePaths=-/srv/www \"-/srv/a b\"",
            "CapabilityBoundingSet=CAP_NET_ADMIN",
            "After=nftables.service",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}");
        }
        let text = rejoin(&layout);
        assert!(text.contains("After=drain-connections.service app@1.service b.service\n"));
        assert!(text.contains("ExecStart=\"/opt/50%% off/drainctl\" rejoin\n"));
    }

    #[test]
    fn every_line_that_orders_or_binds_has_its_reason() {
        let texts = [
            hook(&Layout::default()),
            rejoin(&Layout::default()),
            hold(),
            hold_timer(),
            order(&[Held::new("b.service".to_owned(), KEPT)]).unwrap(),
        ];
        for text in texts {
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.windows(2) {
                if pair[1].starts_with("After=") || pair[1].starts_with("PartOf=") {
                    assert!(pair[0].starts_with("# "), "{} has no reason", pair[1]);
                }
            }
        }
    }

    #[test]
    fn no_path_breaks_out_of_its_line() {
        assert_eq!(word("/usr/bin/x"), "/usr/bin/x");
        assert_eq!(word("/a\nExecStop=/evil"), "\"/a\\x0aExecStop=/evil\"");
        assert_eq!(word("/a\"b$c\\d"), "\"/a\\x22b$$c\\x5cd\"");
        assert_eq!(word("/é"), "\"/\\xc3\\xa9\"");
    }
}
