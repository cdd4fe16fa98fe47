use anyhow::Result;

use crate::host::Host;

/// The unit as it was published, with blanks for the names and the pause.
const UNIT: &str = "\
[Unit]
Description=Shutdown hook to run before supervisord is stopped
After=SUPERVISOR networking.serviceMORE
PartOf=SUPERVISOR
Conflicts=shutdown.target reboot.target halt.target

[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/bin/true
ExecStop=/usr/local/bin/consul maint -enable
ExecStop=/bin/sleep SECONDS

TimeoutSec=301

[Install]
WantedBy=multi-user.target
";

/// How far the published units are adapted to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// To the letter: it names supervisord.service, Debian's unit is supervisor.service.
    Verbatim,
    /// With the unit's right name; Consul's agent is stopped at the same instant.
    RightName,
    /// Also ordered after Consul, and with a pause of so many seconds instead of 300.
    Ordered(u32),
}

impl Seed {
    /// Installs it as the text tells: the unit, the supervisor's drop-in, enabled and started.
    ///
    /// # Errors
    /// If that fails.
    pub fn install(self, host: &Host) -> Result<()> {
        let (supervisor, more, seconds) = match self {
            Self::Verbatim => ("supervisord.service", "", 300),
            Self::RightName => ("supervisor.service", "", 300),
            Self::Ordered(seconds) => ("supervisor.service", " consul.service", seconds),
        };
        let unit = UNIT
            .replace("SUPERVISOR", supervisor)
            .replace("MORE", more)
            .replace("SECONDS", &seconds.to_string());
        host.write("/etc/systemd/system/drain-connections.service", &unit)?;
        let dropin = format!("/etc/systemd/system/{supervisor}.d/supervisord.conf");
        host.write(&dropin, "[Unit]\nWants=drain-connections.service\n")?;
        host.exec(&["ln", "-sf", "/usr/bin/consul", "/usr/local/bin/consul"])?;
        host.exec(&["systemctl", "daemon-reload"])?;
        host.exec(&["systemctl", "enable", "--now", "drain-connections.service"])
            .map(drop)
    }
}
