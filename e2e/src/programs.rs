use anyhow::{Context, Result};

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
    /// gunicorn on a Unix socket, behind the host's own nginx.
    BehindNginx,
    /// The plain one, which asks a PostgreSQL of its host in every request.
    WithDatabase,
    /// As `Plain`, and ends TLS 1.3 itself.
    Tls,
    /// uvicorn, one event loop.
    Uvicorn,
    /// A server for node that dies on SIGTERM at once.
    Node,
    /// A compiled one, with a thread a connection, that dies on SIGTERM at once.
    Native,
}

/// The folder with the socket of PostgreSQL.
const DATABASE: &str = "/var/run/postgresql";
/// The certificate and key of [`Program::Tls`].
const IDENTITY: &str = "/opt/lab/identity.pem";

/// Where [`Program::Native`] lies on a host.
const NATIVE: &str = "/opt/lab/server";

/// The program's part of supervisord's config.
const CONFIG: &str = "/etc/supervisor/conf.d/app.conf";
/// The Unix socket of [`Program::BehindNginx`].
const SOCKET: &str = "/run/app.sock";

impl Program {
    fn command(self) -> String {
        match self {
            Self::Plain | Self::WithDatabase => format!("/usr/bin/python3 /opt/lab/app.py {PORT}"),
            // Connections are kept longer than HAProxy keeps them, or its reuse would race with their end.
            Self::Gunicorn => gunicorn(&format!("0.0.0.0:{PORT}")),
            Self::BehindNginx => gunicorn(&format!("unix:{SOCKET}")),
            Self::Tls => format!("/usr/bin/python3 /opt/lab/app.py {PORT} {IDENTITY}"),
            Self::Uvicorn => format!(
                "/usr/bin/uvicorn --app-dir /opt/lab --host 0.0.0.0 --port {PORT} --timeout-keep-alive 75 --log-level warning asgi:application"
            ),
            Self::Node => format!("/usr/bin/node /opt/lab/server.js {PORT}"),
            Self::Native => format!("{NATIVE} {PORT}"),
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Tls => "https",
            _ => "http",
        }
    }

    /// Its part of supervisord's config, with `before` in front of its command, and more lines.
    fn section(self, host: &str, before: &str, variables: &str, more: &str) -> String {
        format!(
            "[program:app]\ncommand={before}{}\nenvironment=LAB_HOST=\"{host}\",PYTHONDONTWRITEBYTECODE=\"1\"{variables}\nautorestart=true\n{more}",
            self.command()
        )
    }
}

fn gunicorn(bind: &str) -> String {
    format!(
        "/usr/bin/gunicorn --chdir /opt/lab --bind {bind} --threads 64 --keep-alive 75 app:application"
    )
}

/// A certificate that nobody trusts, and its key, in `/opt/lab/identity.pem`.
///
/// # Errors
/// If that fails.
pub fn lay_identity(host: &Host) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new([host.name.clone()])?.self_signed(&key)?;
    let text = format!("{}{}", certificate.pem(), key.serialize_pem());
    host.write(IDENTITY, &text)
}

/// nginx as the package sets it up, with one more server. It keeps some of its connections to the program.
fn lay_nginx(host: &Host) -> Result<()> {
    host.write(
        "/etc/nginx/conf.d/lab.conf",
        &format!(
            "upstream app {{ server unix:{SOCKET}; keepalive 4; }}\n\
             server {{\n listen {PORT};\n client_max_body_size 0;\n keepalive_timeout 75s;\n location / {{\n\
             proxy_pass http://app;\n proxy_http_version 1.1;\n proxy_set_header Connection \"\";\n\
             proxy_buffering off;\n proxy_request_buffering off;\n proxy_read_timeout 120s;\n }}\n}}\n"
        ),
    )?;
    let wants = host.path("/etc/systemd/system/multi-user.target.wants/nginx.service");
    std::os::unix::fs::symlink("/lib/systemd/system/nginx.service", wants)?;
    Ok(())
}

/// PostgreSQL as Debian's package starts it, open to every program of the host.
fn lay_database(host: &Host) -> Result<()> {
    host.write(
        "/etc/postgresql/15/main/pg_hba.conf",
        "local all all trust\nhost all all 127.0.0.1/32 trust\n",
    )?;
    let wants = host.path("/etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink(
        "/lib/systemd/system/postgresql.service",
        wants.join("postgresql.service"),
    )?;
    Ok(())
}

/// Lets supervisord run the program under `drainctl run` from now on.
///
/// # Errors
/// If that fails.
pub fn wrap(host: &Host, program: Program) -> Result<()> {
    let wrapped = format!("/usr/bin/drainctl run --service {SERVICE} -- ");
    let section = program.section(&host.name, &wrapped, "", "stopwaitsecs=90\n");
    host.write(CONFIG, &section)?;
    host.exec(&["supervisorctl", "update"])?;
    Ok(())
}

/// Writes the files of the program under supervisord and of the Consul agent, which is the Debian package's unit as it is.
///
/// # Errors
/// If that fails.
pub fn lay(host: &Host, program: Program, tokens: Tokens) -> Result<()> {
    let (name, address) = (&host.name, &host.port.address);
    host.write("/opt/lab/app.py", include_str!("../programs/app.py"))?;
    if program == Program::BehindNginx {
        lay_nginx(host)?;
    }
    if program == Program::Tls {
        lay_identity(host)?;
    }
    let database = if program == Program::WithDatabase {
        lay_database(host)?;
        format!(",LAB_DATABASE=\"{DATABASE}\"")
    } else {
        String::new()
    };
    host.write("/opt/lab/asgi.py", include_str!("../programs/asgi.py"))?;
    host.write("/opt/lab/server.js", include_str!("../programs/server.js"))?;
    if program == Program::Native {
        // Cargo lays this package's programs beside the folder of its tests.
        let test = std::env::current_exe()?;
        let built = test.parent().and_then(std::path::Path::parent);
        let built = built.map(|dir| dir.join("server")).unwrap_or_default();
        std::fs::copy(&built, host.path(NATIVE))
            .with_context(|| format!("copying {}", built.display()))?;
    }
    host.write(CONFIG, &program.section(name, "", &database, ""))?;
    host.write(
        "/etc/consul.d/lab.json",
        &format!(
            r#"{{
    "datacenter": "lab", "node_name": "{name}", "bind_addr": "{address}",
    "retry_join": ["{REGISTRY}"], "retry_interval": "1s", "disable_update_check": true, "log_level": "warn",
    "skip_leave_on_interrupt": true, "acl": {},
    "service": {{
        "name": "{SERVICE}", "port": {PORT}, "address": "{address}",
        "check": {{"http": "{}://{address}:{PORT}/health", "tls_skip_verify": true, "interval": "1s", "timeout": "5s"}}
    }}
}}"#,
            tokens.setting(),
            program.scheme()
        ),
    )
}
