use super::*;
use crate::systemd::fake::{Fake, host, process};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A host on which supervisord runs as `supervisor.service`, and a Consul agent as `registry.service`.
pub(crate) fn usual() -> (tempfile::TempDir, Root, Fake) {
    let (dir, root) = host();
    process(
        &root,
        30,
        "/usr/bin/python3 /usr/bin/supervisord -n",
        "/system.slice/supervisor.service",
        &[],
    );
    process(
        &root,
        40,
        "/usr/bin/consul agent",
        "/system.slice/registry.service",
        &[500],
    );
    let fake = Fake::new(
        &root,
        &[
            ("supervisor.service", "supervisor.service"),
            ("alias.service", "supervisor.service"),
            ("registry.service", "registry.service"),
            ("postgresql.service", "postgresql.service"),
        ],
    );
    (dir, root, fake)
}

pub(crate) fn install(root: &Root, fake: &Fake, arguments: &[&str]) -> anyhow::Result<String> {
    run(root, fake, Path::new("/usr/bin/drainctl"), arguments)
}

fn run(root: &Root, fake: &Fake, program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut verb = Install {
        unit: Vec::new(),
        keep: Vec::new(),
        dry_run: false,
    };
    for argument in arguments {
        match argument.split_once('=') {
            Some(("--unit", name)) => verb.unit.push(name.to_owned()),
            Some(("--keep", name)) => verb.keep.push(name.to_owned()),
            _ => verb.dry_run = true,
        }
    }
    let mut out = Vec::new();
    verb.on(root, fake, program, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// Every file that an install may touch.
pub(crate) fn tree(root: &Root) -> String {
    let mut files = Vec::new();
    let mut ahead = ["/etc", "/var", "/usr", "/run"]
        .map(|dir| root.path(dir))
        .to_vec();
    while let Some(dir) = ahead.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                let shown = path.strip_prefix(root.path("/")).unwrap();
                files.push(format!("/{}", shown.display()));
            }
        }
    }
    files.sort_unstable();
    files.join("\n")
}

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let (_dir, root, fake) = usual();
    let text = run(
        &root,
        &fake,
        Path::new("/root/target/release/drainctl"),
        &["--dry-run"],
    );
    insta::assert_snapshot!(text.unwrap(), @r#"
    found   supervisor.service: supervisord is its process 30
    found   registry.service: its process 40 is the Consul agent at http://127.0.0.1:8500
    copy    /usr/local/bin/drainctl
              /root/target/release/drainctl may be gone or out of reach when the host stops
    write   /etc/drainctl/drainctl.toml
              there is no config yet: what was found, everything else at its default
    write   /usr/local/share/man/man8/drainctl.8
              what `man` shows
    write   /usr/local/share/man/man5/drainctl.toml.5
              what `man` shows
    write   /usr/local/share/bash-completion/completions/drainctl
              completes on the command line
    write   /usr/local/share/zsh/site-functions/_drainctl
              completes on the command line
    write   /usr/local/share/fish/vendor_completions.d/drainctl.fish
              completes on the command line
    write   /var/lib/drainctl/installed.json
              tells `uninstall` what was not here before
    write   /etc/systemd/system/drain-connections.service
              its stop is the drain: before supervisor.service
    write   /etc/systemd/system/drain-connections-rejoin.service
              takes the host back once its programs are up
    write   /etc/systemd/system/drain-connections-hold.service
              what the boot starts is stopped after the drain, also what is installed later
    write   /etc/systemd/system/drain-connections-hold.timer
              starts it once the boot is over
    write   /etc/systemd/system/drain-connections.service.d/10-order.conf
              must outlive the drain: registry.service
    run     systemctl daemon-reload
              systemd reads units only when told to
    run     systemctl reenable drain-connections.service drain-connections-rejoin.service drain-connections-hold.timer
              started with the units above, also after a reboot
    run     systemctl start drain-connections.service
              only what is active is stopped: without this the next shutdown would not be drained
    run     systemctl start drain-connections-hold.timer drain-connections-hold.service
              everything else is held from now on
    nothing was changed: this was a dry run
    "#);
    assert_eq!(tree(&root), "");
    assert!(fake.heard().is_empty());
}

#[test]
fn an_install_says_what_holds_and_a_second_one_changes_nothing() {
    let (_dir, root, fake) = usual();
    let text = install(&root, &fake, &[]).unwrap();
    assert!(text.ends_with(
        "holds   drain-connections.service is active, and is stopped before supervisor.service\n\
         holds   registry.service lives until the drain is over\n\
         holds   everything else that the boot starts lives as long\n"
    ), "{text}");
    insta::assert_snapshot!(tree(&root), @r#"
    /etc/drainctl/drainctl.toml
    /etc/systemd/system/drain-connections-hold.service
    /etc/systemd/system/drain-connections-hold.timer
    /etc/systemd/system/drain-connections-rejoin.service
    /etc/systemd/system/drain-connections.service
    /etc/systemd/system/drain-connections.service.d/10-order.conf
    /usr/local/share/bash-completion/completions/drainctl
    /usr/local/share/fish/vendor_completions.d/drainctl.fish
    /usr/local/share/man/man5/drainctl.toml.5
    /usr/local/share/man/man8/drainctl.8
    /usr/local/share/zsh/site-functions/_drainctl
    /var/lib/drainctl/installed.json
    /var/lib/drainctl/last-good.json
    "#);
    let config = root.read(config::MAIN, 10_000).unwrap();
    assert!(
        config.contains("units = [\"supervisor.service\"]\n"),
        "{config}"
    );
    assert!(config.contains("[pool.consul]\n"), "{config}");
    insta::assert_snapshot!(root.read(crate::systemd::units::order_path(crate::systemd::HOOK), 10_000).unwrap(), @r#"
    [Unit]
    # runs the Consul agent: without this it is gone before we have left
    After=registry.service
    "#);
    assert_eq!(
        fake.heard(),
        [
            "daemon-reload",
            "reenable drain-connections.service drain-connections-rejoin.service drain-connections-hold.timer",
            "start drain-connections.service",
            "start drain-connections-hold.timer drain-connections-hold.service"
        ]
    );
    let again = install(&root, &fake, &[]).unwrap();
    assert!(again.contains("nothing to change\n"), "{again}");
    assert!(fake.heard().is_empty());
}

#[test]
fn an_upgrade_neither_stops_nor_restarts_the_hook() {
    let (_dir, root, fake) = usual();
    install(&root, &fake, &[]).unwrap();
    fake.heard();
    // What an older version wrote.
    let hook = crate::systemd::units::path(crate::systemd::HOOK);
    let text = root.read(&hook, 10_000).unwrap();
    let older = text.replace("TimeoutStopSec=90s", "TimeoutStopSec=80s");
    assert_ne!(older, text);
    root.replace(&hook, older.as_bytes(), 0o644).unwrap();
    install(&root, &fake, &[]).unwrap();
    let heard = fake.heard();
    assert_eq!(
        heard,
        [
            "daemon-reload",
            "reenable drain-connections.service drain-connections-rejoin.service drain-connections-hold.timer"
        ]
    );
}

#[test]
fn a_program_that_may_be_gone_at_shutdown_is_copied_once() {
    let (dir, root, fake) = usual();
    let program = dir.path().join("target/release/drainctl");
    root.replace("/target/release/drainctl", b"ELF", 0o755)
        .unwrap();
    let text = run(&root, &fake, &program, &[]).unwrap();
    assert!(text.contains("copy    /usr/local/bin/drainctl\n"), "{text}");
    let unit = root
        .read("/etc/systemd/system/drain-connections.service", 10_000)
        .unwrap();
    assert!(unit.contains("ExecStop=/usr/local/bin/drainctl drain\n"));
    assert!(
        run(&root, &fake, &program, &[])
            .unwrap()
            .contains("nothing to change")
    );
    // A new version.
    root.replace("/target/release/drainctl", b"ELF2", 0o755)
        .unwrap();
    run(&root, &fake, &program, &[]).unwrap();
    assert_eq!(root.read("/usr/local/bin/drainctl", 9).unwrap(), "ELF2");
}

#[test]
fn what_is_kept_is_remembered() {
    let (_dir, root, fake) = usual();
    install(&root, &fake, &["--keep=postgresql"]).unwrap();
    let again = install(&root, &fake, &[]).unwrap();
    assert!(again.contains("nothing to change"), "{again}");
    assert!(
        again.contains("registry.service, postgresql.service lives"),
        "{again}"
    );
}

#[test]
fn a_wrong_unit_is_refused_with_what_was_found() {
    let (_dir, root, fake) = usual();
    let error = install(&root, &fake, &["--unit=supervisord"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no unit supervisord.service on this host; \
         found: supervisor.service (supervisord is its process 30)"
    );
    assert_eq!(tree(&root), "");
}

#[test]
fn an_alias_stands_for_its_unit_and_other_units_rewrite_only_our_own_config() {
    let (_dir, root, fake) = usual();
    install(&root, &fake, &["--unit=alias.service"]).unwrap();
    let config = root.read(config::MAIN, 10_000).unwrap();
    assert!(
        config.contains("units = [\"supervisor.service\"]"),
        "{config}"
    );
    install(&root, &fake, &["--unit=postgresql"]).unwrap();
    let config = root.read(config::MAIN, 10_000).unwrap();
    assert!(
        config.contains("units = [\"postgresql.service\"]"),
        "{config}"
    );
    // Touched by the administrator: not ours any more.
    root.replace(config::MAIN, format!("{config}# mine\n").as_bytes(), 0o644)
        .unwrap();
    let error = install(&root, &fake, &["--unit=supervisor"]).unwrap_err();
    assert!(error.to_string().contains("not ours to change"), "{error}");
}

#[test]
fn man_pages_of_a_package_or_of_others_are_left_alone() {
    let (_dir, root, fake) = usual();
    let other = "/usr/local/share/zsh/site-functions/_drainctl";
    root.replace(other, b"mine", 0o644).unwrap();
    install(&root, &fake, &[]).unwrap();
    assert_eq!(root.read(other, 99).unwrap(), "mine");
    let page = "/usr/local/share/man/man8/drainctl.8";
    assert!(root.exists(page));
    // A new version has others.
    root.replace(page, b"old", 0o644).unwrap();
    install(&root, &fake, &[]).unwrap();
    assert_ne!(root.read(page, 99_999).unwrap(), "old");
    let (_dir, root, fake) = usual();
    root.replace("/usr/share/man/man8/drainctl.8.gz", b"", 0o644)
        .unwrap();
    install(&root, &fake, &[]).unwrap();
    assert!(!root.exists(page));
}

#[test]
fn a_host_without_supervisord_needs_a_unit() {
    let (_dir, root) = host();
    let nothing = Fake::new(&root, &[]);
    let error = install(&root, &nothing, &[]).unwrap_err();
    assert!(error.to_string().contains("--unit"), "{error}");
    let stopped = Fake::new(&root, &[("supervisor.service", "supervisor.service")]);
    let text = install(&root, &stopped, &["--dry-run"]).unwrap();
    assert!(
        text.contains("supervisor.service: exists, though nothing runs in it now"),
        "{text}"
    );
}

#[test]
fn a_health_file_elsewhere_may_be_written() {
    let (_dir, root, fake) = usual();
    let config = "report.metrics = \"/var/lib/node_exporter/drainctl.prom\"\n[pool.health-file]\npath = \"/srv/www/up\"\n";
    root.replace(config::MAIN, config.as_bytes(), 0o644)
        .unwrap();
    let text = install(&root, &fake, &[]).unwrap();
    assert!(
        text.contains("but the config has no [pool.consul]"),
        "{text}"
    );
    assert_eq!(root.read(config::MAIN, 999).unwrap(), config);
    let unit = root
        .read("/etc/systemd/system/drain-connections.service", 10_000)
        .unwrap();
    assert!(unit.contains("ReadWritePaths=-/srv/www -/var/lib/node_exporter\n"));
}

#[test]
fn a_broken_config_is_told_and_nothing_is_done() {
    let (_dir, root, fake) = usual();
    root.replace(config::MAIN, b"unit = 3\n", 0o644).unwrap();
    let error = install(&root, &fake, &[]).unwrap_err();
    assert!(error.is::<config::Faults>(), "{error}");
    assert!(fake.heard().is_empty());
}

/// HAProxy as `balancer.service`, whose backend `web` has this host beside another, at a socket with the name that it has while it starts.
fn with_haproxy(root: &Root) {
    process(
        root,
        50,
        "/usr/sbin/haproxy -Ws",
        "/system.slice/balancer.service",
        &[700],
    );
    let unix = root.read("/proc/net/unix", 10_000).unwrap();
    let line =
        "0000000000000000: 00000002 00000000 00010000 0001 01 700 /run/haproxy/admin.sock.50.tmp\n";
    root.replace("/proc/net/unix", (unix + line).as_bytes(), 0o644)
        .unwrap();
    let trie = "     |-- 10.0.0.5\n        /32 host LOCAL\n";
    root.replace("/proc/net/fib_trie", trie.as_bytes(), 0o644)
        .unwrap();
    std::fs::create_dir_all(root.path("/run/haproxy")).unwrap();
    let listener = UnixListener::bind(root.path("/run/haproxy/admin.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = String::new();
            BufReader::new(&stream).read_line(&mut question).unwrap();
            assert_eq!(question, "show servers state\n");
            let table = "1\n# be_id be_name srv_id srv_name srv_addr\n\
                         2 web 1 here 10.0.0.5\n2 web 2 there 10.0.0.6\n3 own 1 here 10.0.0.5\n\n";
            stream.write_all(table.as_bytes()).unwrap();
        }
    });
}

#[test]
fn pools_that_are_found_are_written_with_their_reasons() {
    let (_dir, root, fake) = usual();
    with_haproxy(&root);
    let text = install(&root, &fake, &[]).unwrap();
    for line in [
        "found   [pool.haproxy]: /run/haproxy/admin.sock: HAProxy's servers web/here are this host\n",
        "found   /run/haproxy/admin.sock: HAProxy sends the backend own to this host alone: drained there, it would refuse its clients\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let config = root.read(config::MAIN, 10_000).unwrap();
    let table = "\n# /run/haproxy/admin.sock: HAProxy's servers web/here are this host\n[pool.haproxy]\n\
                 socket = \"/run/haproxy/admin.sock\"\nservers = [\"web/here\"]\n";
    assert!(config.ends_with(table), "{config}");
    let again = install(&root, &fake, &[]).unwrap();
    assert!(again.contains("nothing to change\n"), "{again}");
}
