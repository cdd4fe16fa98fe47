//! Hosts broken in the ways that are met more seldom, and those that need more of a host: see `breakages`.

use crate::breakages::{Broken, broken, by_hand};

/// Lets supervisord run `speaks.py` on a port.
macro_rules! speaks {
    ($port:literal, $what:literal) => {
        concat!(
            "printf '[program:speaks]\\ncommand=/usr/bin/python3 /opt/lab/speaks.py ",
            $port,
            " ",
            $what,
            " /opt/lab/identity.pem\\n' > /etc/supervisor/conf.d/speaks.conf; supervisorctl update; wait_for 'grep -q :",
            $port,
            " /tmp/speaks'"
        )
    };
}
/// And ends that.
const SPOKEN: &str = "rm /tmp/speaks /etc/supervisor/conf.d/speaks.conf /etc/drainctl/conf.d/zz-port-*; supervisorctl update";

/// A pool that a person wrote, which answers what stands in a file.
macro_rules! pool {
    ($answer:literal, $exit:literal) => {
        concat!(
            "echo '",
            $answer,
            "' > /opt/lab/pool.json; printf '[pool.lab]\\ntype = \"command\"\\nargv = [\"/bin/sh\", \"-c\", \"cat >/dev/null; cat /opt/lab/pool.json; exit ",
            $exit,
            "\"]\\n' > $C/lab.toml"
        )
    };
}
const NO_POOL: &str = "rm $C/lab.toml";
const POOL_MENDED: &str =
    "echo '{\"membership\":\"in\"}' > /opt/lab/pool.json; sed -i 's/exit 1/exit 0/' $C/lab.toml";

/// A drop-in of the hook with one more line.
macro_rules! drop_in {
    ($line:literal) => {
        concat!("printf '[Service]\\n", $line, "\\n' > $D/lab.conf; $R")
    };
}

/// A way back that fails, until it has failed for the first time.
macro_rules! no_way_back {
    ($more:literal, $state:literal) => {
        concat!(
            "mkdir -p $W.d; printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n",
            $more,
            "' > $W.d/lab.conf; $R; systemctl restart supervisor.service; \
             wait_for 'systemctl show -P SubState drain-connections-rejoin.service | grep -q ",
            $state,
            "'"
        )
    };
}

/// A host without supervisord: its unit and the init script that systemd would make one of are gone, and another service serves.
const WITHOUT: &str = "systemctl stop supervisor.service; mv /lib/systemd/system/supervisor.service /etc/init.d/supervisor /root; \
     printf '[Service]\\nExecStart=/usr/bin/python3 /opt/lab/app.py 8000\\n[Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/web.service; \
     $R; systemctl enable --now web.service; wait_for 'curl -sf http://127.0.0.1:8000/health'";
const WITH: &str = "systemctl disable --now web.service other.service; rm /etc/systemd/system/web.service; \
     mv /root/supervisor.service /lib/systemd/system; mv /root/supervisor /etc/init.d; rm $C/zz-units.toml; $R; systemctl start supervisor.service; \
     drainctl install; wait_for 'curl -sf http://127.0.0.1:8000/health'; drainctl rejoin";

const UNWRAPPED: &str =
    "rm /etc/supervisor/conf.d/wrapped.conf /etc/supervisor/conf.d/zz-*; supervisorctl update";

/// Errors: the next shutdown would cut requests, or the host would not come back.
pub(crate) const ERRORS: &[Broken] = &[
    broken("hook-stop", drop_in!("ExecStop=/bin/true")).says("several commands"),
    broken("hook-stop", drop_in!("Type=notify")).says("next start fails"),
    broken("hook-stop", drop_in!("RootDirectory=/gone")).says("can't be run"),
    broken("hook-stop", "mv /usr/bin/drainctl /usr/sbin/drainctl")
        .says("can't be run")
        .afterwards("mv /usr/sbin/drainctl /usr/bin/drainctl; drainctl install"),
    broken("hook-loaded", drop_in!("Type=dbus")).says("can't be loaded"),
    broken("hook-enabled", "rm $W; $R").says("after a drain nothing takes this host back"),
    broken("hook-sandbox", drop_in!("CapabilityBoundingSet=")).says("other users' programs"),
    broken(
        "hook-sandbox",
        drop_in!("RestrictAddressFamilies=\\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"),
    )
    .says("may not use the sockets"),
    broken("hook-sandbox", drop_in!("PrivateUsers=yes")).says("users of its own"),
    broken("hook-sandbox", drop_in!("DynamicUser=yes")).says("does not run as root"),
    broken("hook-sandbox", drop_in!("ProcSubset=pid")).says("tables of connections"),
    broken("hook-tried", drop_in!("PrivateNetwork=yes")).says("does not see port 8000"),
    broken(
        "hook-tried",
        drop_in!("RestrictAddressFamilies=\\nRestrictAddressFamilies=AF_UNIX AF_NETLINK"),
    )
    .says("can't reach consul"),
    broken("hook-tried", drop_in!("ReadOnlyPaths=/run/drainctl")).says("can't write down"),
    by_hand(
        "hook-tried",
        "mount --bind /var/lib/drainctl /var/lib/drainctl; mount -o remount,bind,ro /var/lib/drainctl",
        "umount /var/lib/drainctl",
    )
    .says("can't write down"),
    broken(
        "order-target",
        "printf 'units = [\"nowhere.service\"]\\n' > $C/units.toml",
    )
    .says("no unit to drain before")
    .afterwards("rm $C/units.toml $C/zz-units.toml"),
    broken("order-target", WITHOUT).says("no unit to drain before"),
    // Two that it may be.
    by_hand(
        "order-target",
        "rm $C/zz-units.toml; systemd-run --unit other /usr/bin/python3 -m http.server 8001; wait_for 'curl -sf http://127.0.0.1:8001/'",
        "printf 'units = [\"web.service\"]\\n' > $C/zz-units.toml; drainctl install",
    )
    .says("no unit to drain before")
    .afterwards(WITH),
    // The one that the config names does not run, and another does.
    broken(
        "order-target",
        "systemctl stop supervisor.service; printf '[Service]\\nExecStart=/usr/bin/supervisord -n -c /etc/supervisor/supervisord.conf\\n' > \
         /etc/systemd/system/shop.service; $R; systemctl start shop.service; wait_for 'curl -sf http://127.0.0.1:8000/health'",
    )
    .says("shop.service runs supervisord and is not drained")
    .afterwards(
        "systemctl stop shop.service; rm /etc/systemd/system/shop.service $C/zz-units.toml; $R; systemctl start supervisor.service; \
         drainctl install; wait_for 'curl -sf http://127.0.0.1:8000/health'; drainctl rejoin",
    ),
    broken(
        "order-target",
        "printf '[hold]\\neverything = false\\n' > $C/hold.toml; drainctl install; sed -i 's/supervisor[.]service/supervisord.service/' $U; $R",
    )
    .says("at the same moment")
    .afterwards("rm $C/hold.toml; drainctl install"),
    broken(
        "order-circle",
        "sed -i 's/^WantedBy=.*/WantedBy=multi-user.target/' $U; $R; systemctl reenable drain-connections.service",
    )
    .says("before the end of the boot"),
    broken(
        "order-hold",
        "systemctl stop drain-connections-hold.service; rm /etc/systemd/system/drain-connections-hold.service; \
         systemctl mask drain-connections-hold.service",
    )
    .says("stopped as the drain begins"),
    broken("order-hold", "sed -i 's/drain-connections-hold[.]service//' $U; $R")
        .says("not ordered after what holds"),
    broken(
        "limit-wrapped",
        "printf '[program:wrapped]\\ncommand=/usr/bin/drainctl run -- /bin/sleep 1d\\nstopsignal=QUIT\\n' > \
         /etc/supervisor/conf.d/wrapped.conf; supervisorctl update",
    )
    .says("passed on at once")
    .afterwards(UNWRAPPED),
    by_hand("pool-answer", pool!("{\"error\":\"no right\",\"kind\":\"refused\"}", 1), POOL_MENDED)
        .says("lab can't be asked")
    .afterwards(NO_POOL),
    by_hand("pool-answer", pool!("{\"error\":\"no file\",\"kind\":\"local\"}", 1), POOL_MENDED)
        .says("lab can't be asked")
    .afterwards(NO_POOL),
    broken("state-rejoin", no_way_back!("Restart=no\\n", "failed")).says("nobody tries it again"),
];

/// Warnings and notes: the drain works, and something is not as it should be.
pub(crate) const WARNINGS: &[Broken] = &[
    broken("state-rejoin", no_way_back!("", "auto-restart")).says("tries it again"),
    broken(
        "state-rejoin",
        concat!(no_way_back!("Restart=no\\n", "failed"), "; rm $W.d/lab.conf; $R; drainctl rejoin"),
    )
    .says("at its last try"),
    broken(
        "hook-drop-ins",
        "mkdir -p $W.d; printf '[Service]\\nTimeoutStartSec=1s\\n' > $W.d/lab.conf; $R",
    )
    .says("drain-connections-rejoin.service"),
    by_hand(
        "hook-conflicts",
        "printf '[Unit]\\nConflicts=cron.service\\n' > $D/lab.conf; $R",
        "rm $D/lab.conf; $R",
    )
    .says("cron.service"),
    broken(
        "hook-tried",
        drop_in!("InaccessiblePaths=/run/systemd/private /run/dbus"),
    )
    .says("can't ask systemd"),
    broken(
        "hook-why",
        "printf '[hold]\\neverything = false\\n' > $C/hold.toml; drainctl install; sed -i 's/dbus[.]s[a-z]*//g' $U; $R",
    )
    .says("may be stopped")
    .afterwards("rm $C/hold.toml; drainctl install"),
    broken(
        "order-target",
        "printf '[unix_http_server]\\nfile=/run/shop.sock\\n[rpcinterface:supervisor]\\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\\n[supervisord]\\nlogfile=/tmp/shop.log\\npidfile=/tmp/shop.pid\\n[program:shop]\\ncommand=/usr/bin/python3 -m http.server 8002\\n' > \
         /etc/shop.conf; printf '[Service]\\nExecStart=/usr/bin/supervisord -n -c /etc/shop.conf\\n' > /etc/systemd/system/shop.service; $R; \
         systemctl start shop.service; wait_for 'curl -sf http://127.0.0.1:8002/'",
    )
    .says("shop.service runs supervisord and is not drained")
    .afterwards("rm $C/zz-units.toml; drainctl install; systemctl stop shop.service; rm /etc/systemd/system/shop.service; $R"),
    broken(
        "order-target",
        "systemctl stop supervisor.service; systemd-run --unit passing /usr/bin/supervisord -n -c /etc/supervisor/supervisord.conf; \
         wait_for 'curl -sf http://127.0.0.1:8000/health'; printf 'units = [\"passing.service\"]\\n' > $C/units.toml; drainctl install",
    )
    .says("gone after the next boot")
    .afterwards("rm $C/units.toml $C/zz-units.toml; drainctl install"),
    by_hand(
        "order-hold",
        "systemctl stop multi-user.target drain-connections-hold.service",
        "systemctl start multi-user.target; systemctl start drain-connections-hold.service",
    )
    .says("the boot is not over"),
    broken(
        "order-hold",
        "rm /etc/systemd/system/drain-connections-hold.timer; systemctl mask drain-connections-hold.timer",
    )
    .says("after the next boot"),
    broken(
        "order-used",
        "systemctl start redis-server.service; \
         printf '[program:told]\\ncommand=/bin/sleep 1d\\nenvironment=REDIS_URL=\"redis://127.0.0.1:6379/0\"\\n' > /etc/supervisor/conf.d/told.conf; \
         supervisorctl update; wait_for 'redis-cli ping'",
    )
    .says("were told to use it"),
    by_hand(
        "limit-wrapped",
        "printf '[program:wrapped]\\ncommand=/usr/bin/drainctl run -- /bin/sleep 1d\\nstopwaitsecs=70\\nstopasgroup=true\\n' > \
         /etc/supervisor/conf.d/wrapped.conf; supervisorctl update",
        "sed -i 's/drainctl run/& --group/' /etc/supervisor/conf.d/wrapped.conf; drainctl drain && supervisorctl update; drainctl rejoin",
    )
    .says("stopasgroup")
    .afterwards(UNWRAPPED),
    broken(
        "limit-requests",
        "printf '[deadline]\\nrestart = \"3s\"\\n' > $C/short.toml; curl -s 'http://127.0.0.1:8000/slow?s=9' >/dev/null & sleep 1; \
         drainctl drain; drainctl rejoin",
    )
    .says("the last drain cut")
    .afterwards("rm $C/short.toml"),
    // What the firmware of a host at that cloud says.
    broken(
        "limit-notice",
        "mount -t tmpfs tmpfs /sys/class; mkdir -p /sys/class/dmi/id; echo Google > /sys/class/dmi/id/sys_vendor",
    )
    .afterwards("umount /sys/class; rm $C/zz-deadline.toml"),
    by_hand("pool-member", pool!("{\"membership\":\"not-member\"}", 0), POOL_MENDED)
        .says("does not know this host")
        .afterwards(NO_POOL),
    by_hand(
        "pool-stand-in",
        "mv /usr/sbin/nft /usr/sbin/nft.off",
        "mv /usr/sbin/nft.off /usr/sbin/nft",
    ),
    // Or to do without.
    by_hand(
        "pool-stand-in",
        "mv /usr/sbin/nft /usr/sbin/nft.off",
        "printf '[pool.firewall]\\nstand_in_for = []\\n' > $C/firewall.toml; drainctl install",
    )
    .afterwards("mv /usr/sbin/nft.off /usr/sbin/nft; rm $C/firewall.toml; drainctl install"),
    broken("port-unknown", speaks!("9001", "silent")).afterwards(SPOKEN),
    broken("port-certificates", speaks!("9002", "certificates")).afterwards(SPOKEN),
    broken("port-streams", speaks!("9003", "http2")).afterwards(SPOKEN),
    broken("port-streams", speaks!("9004", "http2-only")).afterwards(SPOKEN),
];
