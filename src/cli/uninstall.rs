//! `drainctl uninstall`.

use std::io::Write;

use anyhow::bail;

use crate::exit;
use crate::systemd::steps::{Hands, Pid1, Systemctl};
use crate::systemd::uninstall;
use crate::world::Root;

/// Take everything away again: rejoins first, drains nothing, stops no unit but our own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: drainctl uninstall --dry-run")]
pub(super) struct Uninstall {
    /// Remove the config even where it is not as `install` wrote it
    #[arg(long)]
    purge: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Uninstall {
    /// Takes away everything on this host, and says each step.
    ///
    /// # Errors
    /// What could not be done; what was done before it stays, and the rest is left.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("uninstall")?;
        need_systemd(root)?;
        // Somebody who uninstalls wants it gone now, and does not wait for programs.
        let rejoin = || match super::rejoin::undo(root)? {
            exit::OK => Ok(()),
            _ => bail!(
                "everything stays as it is: mend the above, or give the pools up by removing {}",
                crate::receipts::RECEIPTS
            ),
        };
        self.on(root, &Systemctl, &rejoin, &mut super::say::Out)
    }

    fn on(
        self,
        root: &Root,
        pid1: &dyn Pid1,
        rejoin: &dyn Fn() -> anyhow::Result<()>,
        out: &mut dyn Write,
    ) -> anyhow::Result<u8> {
        let facts = uninstall::gather(root, pid1)?;
        let (steps, stays) = uninstall::plan(&facts, self.purge)?;
        let hands = Hands { root, pid1, rejoin };
        hands.perform(&steps, self.dry_run, out)?;
        for line in stays {
            writeln!(out, "stays   {line}")?;
        }
        if self.dry_run {
            writeln!(out, "nothing was changed: this was a dry run")?;
        } else if steps.is_empty() {
            writeln!(out, "nothing to remove")?;
        }
        Ok(exit::OK)
    }
}

/// The error on a host that something else starts and stops.
pub(super) fn need_systemd(root: &Root) -> anyhow::Result<()> {
    // systemd's own way to tell, sd_booted(3).
    if !root.exists("/run/systemd/system") {
        bail!("this host was not booted with systemd");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::install::tests::{install, tree, usual};
    use super::*;
    use crate::config;
    use crate::receipts::RECEIPTS;
    use crate::systemd::fake::Fake;

    fn uninstall(root: &Root, fake: &Fake, purge: bool) -> anyhow::Result<String> {
        let mut out = Vec::new();
        let verb = Uninstall {
            purge,
            dry_run: false,
        };
        verb.on(root, fake, &|| bail!("unexpected"), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn it_leaves_no_trace_and_drains_nothing() {
        let (_dir, root, fake) = usual();
        install(&root, &fake, &["--keep=postgresql"]).unwrap();
        fake.heard();
        let text = uninstall(&root, &fake, false).unwrap();
        insta::assert_snapshot!(text, @r#"
        run     systemctl disable drain-connections.service drain-connections-rejoin.service drain-connections-hold.timer
                  not started with the units it was for any more
        run     systemctl stop drain-connections-hold.timer drain-connections-hold.service
                  it does nothing by itself; while its file is there, since what is not loaded can not be stopped
        remove  /etc/systemd/system/drain-connections.service
                  without its file a stop is no drain
        remove  /etc/systemd/system/drain-connections-rejoin.service
                  ours
        remove  /etc/systemd/system/drain-connections-hold.service
                  ours
        remove  /etc/systemd/system/drain-connections-hold.timer
                  ours
        remove  /etc/systemd/system/drain-connections.service.d/10-order.conf
                  ours
        remove  /etc/systemd/system/drain-connections.service.d
                  unless other drop-ins are there
        run     systemctl daemon-reload
                  from here on nothing drains
        run     systemctl stop drain-connections.service
                  its command is gone, so this is no drain
        remove  /etc/drainctl/drainctl.toml
                  as `install` wrote it
        remove  /etc/drainctl/conf.d
                  unless something else is in it
        remove  /etc/drainctl
                  unless something else is in it
        remove  /usr/local/share/man/man8/drainctl.8
                  ours
        remove  /usr/local/share/man/man5/drainctl.toml.5
                  ours
        remove  /usr/local/share/bash-completion/completions/drainctl
                  ours
        remove  /usr/local/share/zsh/site-functions/_drainctl
                  ours
        remove  /usr/local/share/fish/vendor_completions.d/drainctl.fish
                  ours
        remove  /usr/local/share/zsh/site-functions
                  made for the files above, unless something else is in it
        remove  /usr/local/share/zsh
                  made for the files above, unless something else is in it
        remove  /usr/local/share/man/man8
                  made for the files above, unless something else is in it
        remove  /usr/local/share/man/man5
                  made for the files above, unless something else is in it
        remove  /usr/local/share/man
                  made for the files above, unless something else is in it
        remove  /usr/local/share/fish/vendor_completions.d
                  made for the files above, unless something else is in it
        remove  /usr/local/share/fish
                  made for the files above, unless something else is in it
        remove  /usr/local/share/bash-completion/completions
                  made for the files above, unless something else is in it
        remove  /usr/local/share/bash-completion
                  made for the files above, unless something else is in it
        remove  /run/drainctl
                  run state
        remove  /var/lib/drainctl
                  receipts, all used, and history
        "#);
        assert_eq!(tree(&root), "");
        for dir in [
            "/etc/drainctl",
            "/etc/systemd/system/drain-connections.service.d",
            "/var/lib/drainctl",
        ] {
            assert!(!root.exists(dir), "{dir}");
        }
        assert_eq!(
            fake.heard(),
            [
                "disable drain-connections.service drain-connections-rejoin.service drain-connections-hold.timer",
                "stop drain-connections-hold.timer drain-connections-hold.service",
                "daemon-reload",
                "stop drain-connections.service"
            ]
        );
        assert_eq!(
            uninstall(&root, &fake, false).unwrap(),
            "nothing to remove\n"
        );
    }

    #[test]
    fn the_host_goes_back_first_and_if_it_cannot_everything_stays() {
        let (_dir, root, fake) = usual();
        install(&root, &fake, &[]).unwrap();
        root.replace(RECEIPTS, b"{}", 0o600).unwrap();
        let before = tree(&root);
        fake.heard();
        let error = uninstall(&root, &fake, false).unwrap_err();
        assert_eq!(format!("{error:#}"), "rejoin: unexpected");
        assert_eq!(tree(&root), before);
        assert!(fake.heard().is_empty());
        let uninstall = |rejoin: &dyn Fn() -> anyhow::Result<()>| {
            let verb = Uninstall {
                purge: false,
                dry_run: false,
            };
            verb.on(&root, &fake, rejoin, &mut Vec::new())
        };
        // A rejoin that leaves a receipt, or a drain right behind it: what it holds is not thrown away.
        let error = uninstall(&|| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("run this again"), "{error:#}");
        assert!(root.exists(RECEIPTS));
        uninstall(&|| Ok(root.remove(RECEIPTS).map(drop)?)).unwrap();
        assert_eq!(tree(&root), "");
    }

    #[test]
    fn what_the_administrator_wrote_stays_unless_it_is_purged() {
        let (_dir, root, fake) = usual();
        install(&root, &fake, &[]).unwrap();
        let changed = format!("{}# mine\n", root.read(config::MAIN, 9999).unwrap());
        root.replace(config::MAIN, changed.as_bytes(), 0o644)
            .unwrap();
        root.replace(
            "/etc/systemd/system/drain-connections.service.d/mine.conf",
            b"",
            0o644,
        )
        .unwrap();
        let text = uninstall(&root, &fake, false).unwrap();
        assert!(
            text.contains("stays   /etc/drainctl/drainctl.toml"),
            "{text}"
        );
        assert_eq!(
            tree(&root),
            "/etc/drainctl/drainctl.toml\n/etc/systemd/system/drain-connections.service.d/mine.conf"
        );
        uninstall(&root, &fake, true).unwrap();
        assert!(!root.exists("/etc/drainctl"));
    }

    #[test]
    fn a_hook_that_a_package_brings_too_is_not_stopped() {
        let (_dir, root, fake) = usual();
        install(&root, &fake, &[]).unwrap();
        root.replace(
            "/usr/lib/systemd/system/drain-connections.service",
            b"",
            0o644,
        )
        .unwrap();
        fake.heard();
        let text = uninstall(&root, &fake, false).unwrap();
        assert!(text.contains("stays   drain-connections.service"), "{text}");
        assert!(!fake.heard().iter().any(|told| told.starts_with("stop")));
    }
}
