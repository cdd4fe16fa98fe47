//! Hosts broken in exactly one way each: what has to be said of them is in `docs/doctor.md`.

/// A host broken in exactly one way.
#[derive(Clone, Copy)]
pub(crate) struct Broken {
    /// By these lines of a shell.
    pub(crate) how: &'static str,
    /// The check that has to say so.
    pub(crate) check: &'static str,
    /// What it has to say, where it may say several things: a part of it.
    pub(crate) says: &'static str,
    /// What a person does who is told in words; empty where the report has all the lines.
    pub(crate) by_hand: &'static str,
    /// What brings the host back to where the next one begins, where the remedy does not.
    pub(crate) afterwards: &'static str,
}

pub(crate) const fn broken(check: &'static str, how: &'static str) -> Broken {
    by_hand(check, how, "")
}

pub(crate) const fn by_hand(
    check: &'static str,
    how: &'static str,
    by_hand: &'static str,
) -> Broken {
    Broken {
        how,
        check,
        says: "",
        by_hand,
        afterwards: "",
    }
}

impl Broken {
    pub(crate) const fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    pub(crate) const fn afterwards(self, afterwards: &'static str) -> Self {
        Self { afterwards, ..self }
    }
}

/// Where the reports stand that these lines use: `$U` is the hook's file, `$D` the folder of its drop-ins,
/// `$S` that of supervisord's, `$W` the way back.
pub(crate) const PLACES: &str = "U=/etc/systemd/system/drain-connections.service; D=$U.d; W=/etc/systemd/system/drain-connections-rejoin.service; S=/etc/systemd/system/supervisor.service.d; C=/etc/drainctl/conf.d; \
                      mkdir -p $D $S $C; R='systemctl daemon-reload'; \
                      wait_for() { timeout 60 sh -c \"until $1; do sleep 0.1; done\"; }; ";

/// Errors: the next shutdown would cut requests, or the host would not come back.
pub(crate) const ERRORS: &[Broken] = &[
    // A stop of the hook drains the host, and leaves it out of its pools.
    broken("hook-active", "systemctl stop drain-connections.service"),
    broken(
        "hook-enabled",
        "systemctl disable drain-connections.service",
    ),
    broken(
        "hook-enabled",
        "systemctl disable drain-connections-rejoin.service",
    ),
    broken("hook-loaded", "rm $U; $R"),
    // The seed's two commands.
    broken(
        "hook-stop",
        "printf '[Service]\\nExecStop=\\nExecStop=/usr/bin/consul maint -enable\\nExecStop=/bin/sleep 300\\n' > $D/seed.conf; $R",
    ),
    broken(
        "order-target",
        "sed -i 's/supervisor[.]service/supervisord.service/' $U; $R",
    ),
    broken(
        "order-registry",
        "systemctl stop drain-connections-hold.service; sed -i 's/consul[.]service//' $U; rm -r $D; $R",
    ),
    // Its unit as it was published, in the place of ours.
    broken(
        "hook-stop",
        concat!(
            "printf '",
            "[Unit]\\nAfter=supervisord.service networking.service\\nPartOf=supervisord.service\\n\
        [Service]\\nType=oneshot\\nRemainAfterExit=true\\nExecStart=/bin/true\\nExecStop=/usr/local/bin/consul maint -enable\\n\
        ExecStop=/bin/sleep 300\\nTimeoutSec=301\\n[Install]\\nWantedBy=multi-user.target\\n",
            "' > $U; rm -r $D; $R"
        ),
    ),
    broken(
        "hook-stop",
        "printf '[Service]\\nRemainAfterExit=no\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-stop",
        "printf '[Service]\\nExecStop=\\nExecStop=/opt/gone/drainctl drain\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-loaded",
        "rm $U; systemctl mask drain-connections.service",
    ),
    broken(
        "hook-drop-ins",
        "rm $W; systemctl mask drain-connections-rejoin.service",
    ),
    broken(
        "order-hold",
        "systemctl stop drain-connections-hold.service",
    ),
    // The database that nobody thought of.
    broken(
        "order-used",
        "systemctl start redis-server.service; \
        printf '[program:uses]\\ncommand=/usr/bin/python3 /opt/lab/uses.py\\n' > /etc/supervisor/conf.d/uses.conf; supervisorctl update; \
        wait_for \"grep -q ':18EB 01' /proc/net/tcp /proc/net/tcp6\"",
    ),
    broken(
        "limit-shutdown",
        "mkdir -p /etc/systemd/system/reboot.target.d; printf '[Unit]\\nJobTimeoutSec=100s\\n' > \
        /etc/systemd/system/reboot.target.d/10-lab.conf; $R",
    ),
    broken(
        "limit-shutdown",
        "printf '[Service]\\nTimeoutStopSec=1h\\n' > $S/10-lab.conf; $R",
    ),
    broken(
        "limit-wrapped",
        "printf '[program:wrapped]\\ncommand=/usr/bin/drainctl run -- /bin/sleep 1d\\n' > /etc/supervisor/conf.d/wrapped.conf; \
        supervisorctl update",
    )
    .afterwards("rm /etc/supervisor/conf.d/wrapped.conf /etc/supervisor/conf.d/zz-*; supervisorctl update"),
    by_hand(
        "probe-answer",
        "printf '[probe.nginx]\\nurl = \"http://127.0.0.1:9/\"\\n' > $C/probe.toml",
        "rm $C/probe.toml",
    ),
    by_hand(
        "order-circle",
        "printf '[Unit]\\nAfter=drain-connections.service\\n' > $S/lab.conf; $R",
        "rm $S/lab.conf; $R",
    ),
    by_hand(
        "pool-member",
        "printf '[pool.consul]\\nscope = \"services\"\\nservices = [\"nowhere\"]\\n' > $C/pool.toml",
        "rm $C/pool.toml",
    ),
    by_hand(
        "order-outside",
        "printf '[supervisord]\\nlogfile=/tmp/by-hand.log\\npidfile=/tmp/by-hand.pid\\n' > /tmp/by-hand.conf; \
         /usr/bin/supervisord -c /tmp/by-hand.conf; wait_for '[ -s /tmp/by-hand.pid ]'",
        "p=$(cat /tmp/by-hand.pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.05; done",
    ),
    // As a session of `su` is, where PAM asks logind for one: the program is not in supervisord's unit.
    by_hand(
        "order-elsewhere",
        "printf '[program:strays]\\ncommand=/usr/bin/systemd-run --quiet --scope /usr/bin/python3 -m http.server 8010\\n' > \
         /etc/supervisor/conf.d/strays.conf; supervisorctl update; wait_for 'curl -sf http://127.0.0.1:8010/'",
        "rm /etc/supervisor/conf.d/strays.conf; supervisorctl update; wait_for '! curl -sf http://127.0.0.1:8010/'",
    ),
    // What the boot's end wants is started before it, and can't be stopped before what the hold keeps.
    broken(
        "hook-wanted",
        "sed -i 's/^WantedBy=.*/WantedBy=multi-user.target/' $U; $R; systemctl reenable drain-connections.service",
    ),
    broken(
        "limit-shutdown",
        "printf '[deadline]\\nshutdown = \"29m\"\\n' > /etc/drainctl/conf.d/deadline.toml",
    ),
    broken(
        "limit-heartbeat",
        "printf '[Service]\\nNotifyAccess=none\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-sandbox",
        "printf '[Service]\\nPrivateNetwork=yes\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-tried",
        "printf '[Service]\\nPrivateNetwork=yes\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-tried",
        "printf '[Service]\\nCapabilityBoundingSet=\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-tried",
        "printf '[Service]\\nReadOnlyPaths=/var/lib/drainctl\\n' > $D/lab.conf; $R",
    ),
    broken(
        "hook-tried",
        "printf '[Service]\\nTemporaryFileSystem=/etc/drainctl\\n' > $D/lab.conf; $R",
    ),
    by_hand(
        "pool-answer",
        "systemctl stop consul.service",
        "systemctl start consul.service",
    ),
    broken(
        "state-receipts",
        "echo nonsense > /var/lib/drainctl/receipts.json",
    ),
];

/// Warnings and notes: the drain works, and something is not as it should be.
pub(crate) const WARNINGS: &[Broken] = &[
    broken(
        "hook-wanted",
        "sed -i 's/^WantedBy=.*/WantedBy=nightly.service/' $U; $R; systemctl reenable drain-connections.service",
    ),
    broken("hook-why", "systemctl stop dbus.socket dbus.service"),
    broken(
        "order-hold",
        "systemctl disable drain-connections-hold.timer",
    ),
    broken("order-beside", "systemctl start many@1000.service"),
    broken(
        "order-network",
        "printf '[Service]\\nExecStart=/bin/sleep 1d\\n' > /etc/systemd/system/wpa_supplicant.service; $R; \
        systemctl start wpa_supplicant.service",
    ),
    broken(
        "order-mounts",
        "printf '[Unit]\\nDefaultDependencies=no\\nAfter=remote-fs-pre.target\\nConflicts=umount.target\\n[Mount]\\nWhat=tmpfs\\nWhere=/mnt\\nType=tmpfs\\nOptions=_netdev\\n' > /etc/systemd/system/mnt.mount; $R; \
        systemctl start mnt.mount",
    ),
    by_hand(
        "limit-delay",
        "systemd-run --unit blocks systemd-inhibit --mode=block sleep 1d; wait_for 'systemd-inhibit --list | grep -q block'",
        "systemctl stop blocks.service",
    ),
    by_hand(
        "pool-readers",
        "printf 'namers:\\n- kind: io.l5d.consul\\n' > /tmp/linkerd.yaml; \
        systemd-run --unit reader /bin/sh -c 'sleep 1d; true' linkerd /tmp/linkerd.yaml",
        "systemctl stop reader.service",
    ),
    broken("state-scheduled", "shutdown +60"),
    broken("hook-restart", "sed -i '/^PartOf=/d' $U; $R"),
    broken("hook-files", "echo '# mine' >> $U; $R"),
    broken("hook-reload", "touch -d '+1 minute' $U"),
    broken(
        "hook-drop-ins",
        "printf '[Service]\\nTimeoutStopSec=40s\\n' > $D/lab.conf; $R",
    ),
    // One for all services, which stays as it is for the others.
    broken(
        "hook-drop-ins",
        "mkdir -p /etc/systemd/system/service.d; printf '[Service]\\nTimeoutStopSec=50s\\n' > /etc/systemd/system/service.d/all.conf; $R",
    ),
    by_hand(
        "hook-names",
        "sed -i.off 's/^.unix_http_server.$/[nothing]/' /etc/supervisor/supervisord.conf; systemctl restart supervisor.service; \
         wait_for 'curl -sf http://127.0.0.1:8000/health'; wait_for '! test -e /var/lib/drainctl/receipts.json'",
        "mv /etc/supervisor/supervisord.conf.off /etc/supervisor/supervisord.conf; systemctl restart supervisor.service; \
         wait_for '! test -e /var/lib/drainctl/receipts.json'",
    ),
    by_hand(
        "port-none",
        "supervisorctl stop app",
        "supervisorctl start app; wait_for 'curl -sf http://127.0.0.1:8000/health'",
    ),
    broken(
        "hook-tried",
        "printf '[Service]\\nInaccessiblePaths=/run/supervisor.sock\\n' > $D/lab.conf; $R",
    ),
    broken(
        "limit-crash",
        "printf '[Service]\\nRestartSec=1h\\n' > $S/10-lab.conf; $R",
    ),
    broken(
        "limit-crash",
        "printf '[Service]\\nRestart=no\\n' > $S/10-lab.conf; $R",
    ),
    broken(
        "limit-programs",
        "rm /etc/drainctl/conf.d/*.toml; printf '[program:app]\\nstopwaitsecs=300\\n' > /etc/supervisor/conf.d/lab.conf; supervisorctl update",
    ),
    broken(
        "limit-default",
        "mkdir -p /etc/systemd/system.conf.d; printf '[Manager]\\nDefaultTimeoutStopSec=20s\\n' > \
                             /etc/systemd/system.conf.d/10-lab.conf; systemctl daemon-reexec",
    ),
    by_hand(
        "hook-conflicts",
        "printf '[Unit]\\nConflicts=drain-connections.service\\n[Service]\\nExecStart=/bin/sleep 1d\\n[Install]\\nWantedBy=multi-user.target\\n' > \
        /etc/systemd/system/fight.service; $R; systemctl enable fight.service",
        "systemctl disable fight.service; rm /etc/systemd/system/fight.service; $R",
    ),
    // Locks that delay may be on shutdown and sleep only.
    broken(
        "limit-delay",
        "mkdir -p /etc/systemd/logind.conf.d; printf '[Login]\\nInhibitDelayMaxSec=10min\\n' > /etc/systemd/logind.conf.d/10-lab.conf; \
        systemctl restart systemd-logind.service; systemd-run --unit delays systemd-inhibit --what=shutdown --mode=delay sleep 1d; \
        wait_for 'systemd-inhibit --list | grep -q delay'",
    ),
    // A request that takes longer than supervisord waits for it.
    broken(
        "limit-requests",
        "rm -f /etc/supervisor/conf.d/lab.conf; supervisorctl update; wait_for 'curl -sf http://127.0.0.1:8000/health'; \
        curl -s 'http://127.0.0.1:8000/slow?s=14' >/dev/null & sleep 1; drainctl drain; drainctl rejoin",
    ),
    broken(
        "state-leftovers",
        "printf '[Service]\\nRestartSec=1s\\n' > $S/10-lab.conf; $R; \
        systemctl kill -s KILL --kill-who=main supervisor.service; \
        wait_for 'systemctl show -P NRestarts supervisor.service | grep -q 1'; wait_for 'systemctl -q is-active supervisor.service && systemctl -q is-active drain-connections.service'",
    ),
    broken("state-receipts", "drainctl drain"),
    broken(
        "pool-mark",
        "drainctl drain; rm /var/lib/drainctl/receipts.json",
    ),
    by_hand(
        "pool-out",
        "consul maint -enable -reason 'a new disk'",
        "consul maint -disable",
    ),
    by_hand(
        "state-lasting",
        "mount -t tmpfs tmpfs /var/lib/drainctl",
        "umount /var/lib/drainctl",
    ),
];
