use anyhow::Result;

use crate::consul::{ADDRESS as REGISTRY, SERVICE, Tokens};
use crate::host::Host;

/// Where the programs listen.
pub const PORT: u16 = 8000;

/// What supervisord runs on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A threaded HTTP/1.1 server with keep-alive that dies on SIGTERM at once.
    Plain,
    /// gunicorn with threads.
    Gunicorn,
}

impl Program {
    fn command(self) -> String {
        match self {
            Self::Plain => format!("/usr/bin/python3 /opt/lab/app.py {PORT}"),
            // Connections are kept longer than HAProxy keeps them, or its reuse would race with their end.
            Self::Gunicorn => format!(
                "/usr/bin/gunicorn --chdir /opt/lab --bind 0.0.0.0:{PORT} --threads 64 --keep-alive 75 app:application"
            ),
        }
    }
}

/// Writes the files of the program under supervisord and of the Consul agent, which is the Debian package's unit as it is.
///
/// # Errors
/// If that fails.
pub fn lay(host: &Host, program: Program, tokens: Tokens) -> Result<()> {
    let (name, address) = (&host.name, &host.port.address);
    host.write("/opt/lab/app.py", include_str!("../programs/app.py"))?;
    host.write(
        "/etc/supervisor/conf.d/app.conf",
        &format!(
            "[program:app]\ncommand={}\nenvironment=LAB_HOST=\"{name}\",PYTHONDONTWRITEBYTECODE=\"1\"\nautorestart=true\n",
            program.command()
        ),
    )?;
    host.write(
        "/etc/consul.d/lab.json",
        &format!(
            r#"{{
    "datacenter": "lab", "node_name": "{name}", "bind_addr": "{address}",
    "retry_join": ["{REGISTRY}"], "retry_interval": "1s", "disable_update_check": true, "log_level": "warn",
    "skip_leave_on_interrupt": true, "acl": {},
    "service": {{
        "name": "{SERVICE}", "port": {PORT}, "address": "{address}",
        "check": {{"http": "http://{address}:{PORT}/health", "interval": "1s", "timeout": "5s"}}
    }}
}}"#,
            tokens.setting()
        ),
    )
}
