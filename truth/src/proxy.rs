//! Real proxies between the clients and the servers.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// How clients reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Via {
    /// Straight, over IPv4.
    V4,
    /// Straight, over IPv6.
    V6,
    /// Straight, over IPv4 to a server that listens on IPv6.
    Mapped,
    /// Through HAProxy, which reuses its connections to the server.
    Haproxy,
    /// Through nginx, which does too.
    Nginx,
    /// Through Envoy, which always does.
    Envoy,
}

impl Via {
    /// Its name in the matrix.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "direct",
            Self::V6 => "direct-v6",
            Self::Mapped => "direct-mapped",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        }
    }

    /// The program that it needs.
    pub(crate) const fn program(self) -> Option<&'static str> {
        match self {
            Self::V4 | Self::V6 | Self::Mapped => None,
            Self::Haproxy => Some("haproxy"),
            Self::Nginx => Some("nginx"),
            Self::Envoy => Some("envoy"),
        }
    }

    /// Where the server listens.
    pub(crate) fn listen(self, port: u16) -> SocketAddr {
        match self {
            Self::V6 => (Ipv6Addr::LOCALHOST, port).into(),
            Self::Mapped => (Ipv6Addr::UNSPECIFIED, port).into(),
            _ => (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    /// Where clients connect to.
    pub(crate) fn target(self, port: u16) -> SocketAddr {
        match self {
            Self::V6 => (Ipv6Addr::LOCALHOST, port).into(),
            Self::V4 | Self::Mapped => (Ipv4Addr::LOCALHOST, port).into(),
            Self::Haproxy | Self::Nginx | Self::Envoy => (Ipv4Addr::LOCALHOST, port + FRONT).into(),
        }
    }
}

/// A server behind a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstream {
    /// Its port.
    pub(crate) port: u16,
    /// Whether it ends TLS itself.
    pub(crate) tls: bool,
    /// Whether it speaks HTTP/2, and its clients too.
    pub(crate) http2: bool,
    /// Whether connections to it are used again for other clients.
    pub(crate) reuses: bool,
}

/// The server of port P stands behind the proxy's port P + this.
const FRONT: u16 = 1000;

/// Whether a program can be found.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// Starts one proxy for all servers behind it. It ends with this program.
pub(crate) fn start(via: Via, servers: &[Upstream], dir: &Path) -> Result<()> {
    let file = dir.join(via.name());
    let path = file.to_str().context("a path in UTF-8")?;
    let (config, words) = match via {
        Via::Haproxy => (haproxy(servers), vec!["haproxy", "-db", "-q", "-f", path]),
        Via::Nginx => (
            nginx(servers, dir),
            vec!["nginx", "-e", "/dev/null", "-c", path],
        ),
        Via::Envoy => (
            envoy(servers),
            vec![
                "envoy",
                "--config-path",
                path,
                "--concurrency",
                "1",
                "--log-level",
                "error",
                "--use-dynamic-base-id",
            ],
        ),
        Via::V4 | Via::V6 | Via::Mapped => return Ok(()),
    };
    fs::write(&file, config)?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(words)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", via.name()))?;
    Ok(())
}

fn haproxy(servers: &[Upstream]) -> String {
    let mut text = "global\n nbthread 1\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 90s\n \
        timeout server 90s\n"
        .to_owned();
    for Upstream {
        port,
        tls,
        http2,
        reuses,
    } in servers
    {
        let front = port + FRONT;
        let protocol = if *http2 { "proto h2" } else { "" };
        let reuse = if *reuses { "always" } else { "never" };
        let ssl = match (tls, http2) {
            (false, _) => "",
            (true, false) => "ssl verify none",
            (true, true) => "ssl verify none alpn h2",
        };
        let _ = write!(
            text,
            "listen l{port}\n http-reuse {reuse}\n bind 127.0.0.1:{front} backlog 2048 {protocol}\n \
            server s 127.0.0.1:{port} pool-purge-delay 60s {ssl} {protocol}\n"
        );
    }
    text
}

fn nginx(servers: &[Upstream], dir: &Path) -> String {
    let dir = dir.display();
    let mut text = format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; worker_rlimit_nofile 20000;\n\
        events {{ worker_connections 8000; }}\nhttp {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; \
        fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; client_max_body_size 1m; proxy_read_timeout 90s; \
        proxy_http_version 1.1; proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_set_header Connection ''; keepalive_requests 100000;\n"
    );
    for Upstream {
        port, tls, reuses, ..
    } in servers
    {
        let front = port + FRONT;
        let scheme = if *tls { "https" } else { "http" };
        let kept = if *reuses {
            "keepalive 1000; keepalive_requests 100000;"
        } else {
            ""
        };
        let _ = write!(
            text,
            "upstream u{port} {{ server 127.0.0.1:{port}; {kept} }}\n\
            server {{ listen 127.0.0.1:{front} backlog=2048; location / {{ proxy_pass {scheme}://u{port}; }} }}\n"
        );
    }
    text + "}\n"
}

fn envoy(servers: &[Upstream]) -> String {
    let address = |port: u16| {
        format!(r#""address":{{"socket_address":{{"address":"127.0.0.1","port_value":{port}}}}}"#)
    };
    let listener = |Upstream { port, .. }: &Upstream| {
        format!(
            r#"{{{},"filter_chains":[{{"filters":[{{"name":"h","typed_config":{{
            "@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix":"l{port}","codec_type":"HTTP1","route_config":{{"virtual_hosts":[{{"name":"v","domains":["*"],
            "routes":[{{"match":{{"prefix":"/"}},"route":{{"cluster":"c{port}","timeout":"90s"}}}}]}}]}},
            "http_filters":[{{"name":"r","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}}]}}}}]}}]}}"#,
            address(port + FRONT)
        )
    };
    let cluster = |Upstream {
                       port, tls, reuses, ..
                   }: &Upstream| {
        let socket = if *tls {
            r#""transport_socket":{"name":"t","typed_config":{
            "@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context":{"tls_params":{"tls_maximum_protocol_version":"TLSv1_3"}}}},"#
        } else {
            ""
        };
        let most = if *reuses {
            ""
        } else {
            r#""max_requests_per_connection":1,"#
        };
        format!(
            r#"{{"name":"c{port}","connect_timeout":"5s","type":"STATIC",{socket}{most}
            "circuit_breakers":{{"thresholds":[{{"max_connections":9000,"max_pending_requests":9000,"max_requests":9000}}]}},
            "load_assignment":{{"cluster_name":"c{port}","endpoints":[{{"lb_endpoints":[{{"endpoint":{{{}}}}}]}}]}}}}"#,
            address(*port)
        )
    };
    let listeners: Vec<_> = servers.iter().map(listener).collect();
    let clusters: Vec<_> = servers.iter().map(cluster).collect();
    format!(
        r#"{{"static_resources":{{"listeners":[{}],"clusters":[{}]}}}}"#,
        listeners.join(","),
        clusters.join(",")
    )
}
