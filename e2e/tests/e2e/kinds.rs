//! Hosts that differ in what a shutdown stops, and in which order: see `order`.

/// The check that names a circle.
pub(crate) const CIRCLE: &str = "order-circle";
const NOT_EVERYTHING: &str = "[hold]\neverything = false\n";

/// A kind of host.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Its config, beside the settle.
    pub(crate) config: &'static str,
    /// Unit files, by name; laid before it boots.
    pub(crate) units: &'static [(&'static str, &'static str)],
    /// Lines for a shell: before the install, after it.
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
    /// A unit that stops only after the drain, one that does not wait for it: named by hand, since a prediction and a measurement may be
    /// wrong in the same way.
    pub(crate) late: &'static [&'static str],
    pub(crate) early: &'static [&'static str],
    /// The units of which nobody can say it, beside those of a circle: some versions stop them, and others don't.
    pub(crate) either: &'static [&'static str],
    /// The check that must have a finding; none must where it is empty.
    pub(crate) finds: &'static [&'static str],
    /// Whether its boot never ends.
    pub(crate) boots_on: bool,
}

const PLAIN: Kind = Kind {
    name: "everything held",
    config: "",
    units: &[],
    before: "",
    after: "",
    late: &["supervisor.service", "other.service"],
    early: &[],
    either: &[],
    finds: &[],
    boots_on: false,
};

/// A service that is started with the boot.
pub(crate) const ENABLED: &str =
    "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

pub(crate) const KINDS: &[Kind] = &[
    PLAIN,
    Kind {
        name: "nothing held",
        config: NOT_EVERYTHING,
        early: &["other.service"],
        late: &["supervisor.service"],
        ..PLAIN
    },
    Kind {
        name: "a wrong name, everything held",
        after: "sed -i 's/supervisor[.]service/supervisord.service/' /etc/systemd/system/drain-connections.service; \
                systemctl daemon-reload",
        finds: &["order-target", "hook-restart", "hook-files"],
        ..PLAIN
    },
    Kind {
        name: "a wrong name, nothing held",
        config: NOT_EVERYTHING,
        after: "sed -i 's/supervisor[.]service/supervisord.service/' /etc/systemd/system/drain-connections.service; \
                systemctl daemon-reload",
        late: &[],
        early: &["supervisor.service", "other.service"],
        finds: &["order-target", "hook-restart"],
        ..PLAIN
    },
    Kind {
        name: "a unit of the boot after the drain",
        units: &[(
            "late.service",
            "[Unit]\nAfter=drain-connections.service\n[Service]\nExecStart=/bin/sleep infinity\n\
             [Install]\nWantedBy=multi-user.target\n",
        )],
        late: &["supervisor.service"],
        finds: &[CIRCLE],
        ..PLAIN
    },
    Kind {
        name: "a target after the drain",
        config: NOT_EVERYTHING,
        units: &[(
            "supervisor.service.d/after.conf",
            "[Unit]\nAfter=drain-connections.service\n",
        )],
        late: &["dbus.service"],
        early: &["other.service"],
        finds: &[CIRCLE],
        ..PLAIN
    },
    Kind {
        name: "installed and enabled after the install",
        after: "systemctl -q enable --now new.service",
        units: &[("new.service", ENABLED)],
        late: &["supervisor.service", "other.service", "new.service"],
        ..PLAIN
    },
    Kind {
        name: "started by hand after the install",
        after: "systemctl start new.service",
        units: &[("new.service", ENABLED)],
        early: &["new.service"],
        finds: &["order-beside"],
        ..PLAIN
    },
    Kind {
        name: "started by hand, and installed again",
        after: "systemctl start new.service; drainctl install",
        units: &[("new.service", ENABLED)],
        late: &["supervisor.service", "other.service", "new.service"],
        ..PLAIN
    },
    Kind {
        name: "used, and nothing else held",
        config: NOT_EVERYTHING,
        before: "systemctl start redis-server.service; supervisorctl start uses",
        late: &["supervisor.service", "redis-server.service"],
        early: &["other.service"],
        ..PLAIN
    },
    Kind {
        name: "used after the install only",
        config: NOT_EVERYTHING,
        after: "systemctl start redis-server.service; supervisorctl start uses",
        late: &["supervisor.service"],
        early: &["other.service", "redis-server.service"],
        finds: &["order-used"],
        ..PLAIN
    },
    Kind {
        name: "the hold stopped by hand",
        after: "systemctl stop drain-connections-hold.service",
        late: &["supervisor.service"],
        early: &["other.service"],
        finds: &["order-hold"],
        ..PLAIN
    },
    Kind {
        name: "asked for",
        config: NOT_EVERYTHING,
        after: "drainctl install --keep other",
        ..PLAIN
    },
    Kind {
        name: "named in the config, another excepted",
        config: "[hold]\neverything = false\nkeep = [\"other.service\"]\nexcept = [\"redis-server.service\"]\n",
        before: "systemctl start redis-server.service; supervisorctl start uses",
        early: &["redis-server.service"],
        ..PLAIN
    },
    Kind {
        name: "a boot that never ends",
        units: &[(
            "hangs.service",
            "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
        )],
        late: &["supervisor.service"],
        early: &["other.service"],
        finds: &["order-hold"],
        boots_on: true,
        ..PLAIN
    },
    Kind {
        name: "another target since the boot",
        after: "systemctl isolate multi-user.target",
        ..PLAIN
    },
    Kind {
        name: "many kinds of units, everything held",
        units: ZOO,
        before: ZOO_START,
        late: &[
            "supervisor.service",
            "other.service",
            "bound.service",
            "part.service",
            "after.service",
            "zoo-a.mount",
            "bare.service",
        ],
        either: &["spread.service"],
        ..PLAIN
    },
    Kind {
        name: "many kinds of units, nothing held",
        config: NOT_EVERYTHING,
        units: ZOO,
        before: ZOO_START,
        late: &["supervisor.service"],
        early: &[
            "other.service",
            "bound.service",
            "part.service",
            "bare.service",
            "after.service",
        ],
        either: &["spread.service"],
        ..PLAIN
    },
    Kind {
        name: "some held by way of slices, instances and sockets",
        config: "[hold]\neverything = false\nkeep = [\"sliced.service\", \"many@one.service\", \"answers.service\"]\n",
        units: WAYS,
        before: WAYS_START,
        late: &[
            "supervisor.service",
            "sliced.service",
            "ways.slice",
            "below.service",
            "many@one.service",
            "system-many.slice",
            "answers.service",
            "answers.socket",
        ],
        early: &[
            "other.service",
            "many@two.service",
            "free.service",
            "under.service",
            "passes.service",
            "upholds.service",
            "upheld.service",
        ],
        either: &["passed.service"],
        ..PLAIN
    },
    Kind {
        name: "some held that are free of the usual orders, or keep others up",
        config: "[hold]\neverything = false\nkeep = [\"free.service\", \"passes.service\", \"upholds.service\"]\n",
        units: WAYS,
        before: WAYS_START,
        late: &[
            "supervisor.service",
            "free.service",
            "under.service",
            "passes.service",
            "upholds.service",
        ],
        early: &[
            "other.service",
            "sliced.service",
            "below.service",
            "many@one.service",
            "answers.service",
            "upheld.service",
        ],
        either: &["passed.service"],
        ..PLAIN
    },
    Kind {
        name: "all of these held",
        units: WAYS,
        before: WAYS_START,
        late: &[
            "supervisor.service",
            "sliced.service",
            "below.service",
            "many@one.service",
            "many@two.service",
            "answers.service",
            "free.service",
            "under.service",
            "passes.service",
            "upholds.service",
            "upheld.service",
        ],
        either: &["passed.service"],
        ..PLAIN
    },
];

/// Units that reach each other's stop in every way that systemd knows.
const ZOO: &[(&str, &str)] = &[
    (
        "after.service",
        "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "bound.service",
        "[Unit]\nBindsTo=other.service\nAfter=other.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "part.service",
        "[Unit]\nDefaultDependencies=no\nPartOf=other.service\nBefore=multi-user.target\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "spread.service",
        "[Unit]\nDefaultDependencies=no\nStopPropagatedFrom=other.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "bare.service",
        "[Unit]\nDefaultDependencies=no\nConflicts=shutdown.target\n[Service]\nExecStart=/bin/sleep infinity\n",
    ),
    (
        "stays.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=sysinit.target\n",
    ),
    (
        "ticks.timer",
        "[Timer]\nOnCalendar=yearly\nUnit=other.service\n[Install]\nWantedBy=timers.target\n",
    ),
    (
        "many@.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\nDefaultInstance=one\n",
    ),
    (
        "zoo-a.mount",
        "[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/zoo/a\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "answers.socket",
        "[Socket]\nListenStream=/run/answers\n[Install]\nWantedBy=sockets.target\n",
    ),
    (
        "answers.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
];
const ZOO_START: &str = "systemctl -q enable --now after bound part spread stays ticks.timer many@one zoo-a.mount answers.socket; \
                         systemctl start bare answers";

/// Units that are held by way of others: a slice, an instance's slice, a socket; and those whose stop other units decide about.
const WAYS: &[(&str, &str)] = &[
    ("ways.slice", "[Unit]\nAfter=below.service\n"),
    (
        "sliced.service",
        "[Service]\nSlice=ways.slice\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    ("below.service", ENABLED),
    (
        "many@.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "answers.socket",
        "[Socket]\nListenStream=/run/answers\n[Install]\nWantedBy=sockets.target\n",
    ),
    (
        "answers.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
    (
        "free.service",
        "[Unit]\nDefaultDependencies=no\nConflicts=shutdown.target\nAfter=under.service\n[Service]\nExecStart=/bin/sleep infinity\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    ("under.service", ENABLED),
    (
        "passes.service",
        "[Unit]\nPropagatesStopTo=passed.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "passed.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "upholds.service",
        "[Unit]\nUpholds=upheld.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "upheld.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
];
/// The service is started by its socket.
const WAYS_START: &str = "systemctl -q enable --now below under sliced many@one many@two answers.socket free passes passed upholds; \
                          python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/answers\")'; \
                          until systemctl -q is-active answers upheld; do sleep 0.1; done";

/// Keeps a connection to Redis.
pub(crate) const USES: &str =
    "import redis, time\nr = redis.Redis()\nwhile True:\n    r.ping()\n    time.sleep(0.5)\n";
