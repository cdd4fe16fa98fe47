use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::consul::{ADDRESS as REGISTRY, SERVICE};
use crate::enter::Parts;
use crate::net::Port;
use crate::programs::PORT;

/// Where `cargo xtask` puts Envoy: in the same cache as the hosts' root.
fn program(parts: &Parts) -> Result<PathBuf> {
    let cache = parts.root.parent().unwrap_or(Path::new("/"));
    let program = cache.join("envoy/envoy/_bin/envoy");
    ensure!(program.exists(), "no Envoy at {}", program.display());
    Ok(program)
}

/// Starts Envoy in front of the hosts that Consul's DNS names, asked every half second. No checks of its own, and one try a request.
pub(crate) fn spawn(parts: &Parts, port: &Port, dir: &Path, log: &str) -> Result<Child> {
    let config = dir.join("envoy.json");
    fs::write(&config, settings(&port.address).to_string())?;
    let log = File::create(dir.join(log))?;
    port.command(&[&program(parts)?.to_string_lossy()])
        // The hosts' sites run side by side, and none is another's successor.
        .args(["--disable-hot-restart", "--concurrency", "1"])
        .args(["--log-level", "error", "-c"])
        .arg(config)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting Envoy")
}

fn settings(address: &str) -> serde_json::Value {
    let socket = |address: &str, port: u16| json!({ "socket_address": { "address": address, "port_value": port } });
    let of = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    // As HAProxy's log has it: no word on what ended well.
    let fault = json!({ "status_code_filter": { "comparison": {
        "op": "GE", "value": { "default_value": 400, "runtime_key": "none" } } } });
    let log = json!({
        "name": "log", "filter": fault,
        "typed_config": {
            "@type": of("access_loggers.stream.v3.StdoutAccessLog"),
            "log_format": { "text_format_source": {
                "inline_string": "%START_TIME% app/%UPSTREAM_HOST% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(:METHOD)% %REQ(:PATH)%\n" } },
        },
    });
    let route =
        json!({ "match": { "prefix": "/" }, "route": { "cluster": SERVICE, "timeout": "0s" } });
    let manager = json!({
        "@type": of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "web",
        "access_log": [log],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        "http_filters": [{ "name": "router", "typed_config": { "@type": of("filters.http.router.v3.Router") } }],
    });
    let name = format!("{SERVICE}.service.consul");
    let mut registry = socket(REGISTRY, 8600);
    registry["socket_address"]["protocol"] = "UDP".into();
    let cluster = json!({
        "name": SERVICE,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "dns_refresh_rate": "0.5s",
        "dns_lookup_family": "V4_ONLY",
        "typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": of("network.dns_resolver.cares.v3.CaresDnsResolverConfig"),
                "resolvers": [registry],
                "dns_resolver_options": { "no_default_search_domain": true },
            },
        },
        "load_assignment": {
            "cluster_name": SERVICE,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(&name, PORT) } }] }],
        },
    });
    let filter = json!({ "name": "http", "typed_config": manager });
    json!({ "static_resources": {
        "listeners": [{
            "name": "web", "address": socket(address, 80),
            "filter_chains": [{ "filters": [filter] }],
        }],
        "clusters": [cluster],
    } })
}
