//! Where credentials come from, in the order of AWS's own tools: a file that is named, the environment, the container's role, the
//! instance's role. Looked up for each operation: roles are rotated, also between leave and rejoin.

use anyhow::anyhow;
use serde::Deserialize;

use super::local;
use super::metadata::Metadata;
use super::settings::Settings;
use super::sign::Credentials;
use crate::pools::{Context, PoolError, PoolErrorKind, files};
use crate::world::http::{Client, Endpoint, Tls};

/// Where the agents of ECS and EKS answer.
const CONTAINER: &str = "http://169.254.170.2";

/// The credentials to sign with. `variable` reads the environment.
pub(super) fn find(
    settings: &Settings,
    cx: &Context,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Credentials, PoolError> {
    let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
    if let Some(file) = &settings.credentials_file {
        let text = files::read_secret(cx, file)?;
        return default_profile(&text).ok_or_else(|| {
            let keys = "aws_access_key_id and aws_secret_access_key";
            local(anyhow!("{}: no {keys} below [default]", file.display()))
        });
    }
    if let (Some(id), Some(secret)) = (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    ) {
        return Ok(Credentials {
            id,
            secret,
            token: variable("AWS_SESSION_TOKEN"),
        });
    }
    let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    if let Some(url) = relative
        .map(|path| format!("{CONTAINER}{path}"))
        .or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
    {
        return container(cx, &url, &variable);
    }
    instance(settings, cx).map_err(|error| {
        let what = anyhow!("no credentials in the environment, none of a container, and: {error}");
        PoolError::new(error.kind(), what)
    })
}

/// Of the file that AWS's tools write.
fn default_profile(text: &str) -> Option<Credentials> {
    let mut within = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            within = name.trim_end_matches(']').trim() == "default";
        } else if within && let Some((key, value)) = line.split_once('=') {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match key.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Credentials {
        id: id?,
        secret: secret?,
        token,
    })
}

/// As roles are told, in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

impl Role {
    fn read(text: &[u8], from: &str) -> Result<Credentials, PoolError> {
        // What the parser says may repeat a part of the text.
        let role: Role = serde_json::from_slice(text).map_err(|_| {
            let what = anyhow!("{from}: no credentials in what it answers");
            PoolError::new(PoolErrorKind::BadAnswer, what)
        })?;
        Ok(Credentials {
            id: role.access_key_id,
            secret: role.secret_access_key,
            token: role.token,
        })
    }
}

fn container(
    cx: &Context,
    url: &str,
    variable: &dyn Fn(&'static str) -> Option<String>,
) -> Result<Credentials, PoolError> {
    let host = url.find("://").map_or(0, |at| at + 3);
    let path = url[host..].find('/').map_or(url.len(), |at| host + at);
    let (base, path) = url.split_at(path);
    let endpoint = Endpoint::parse(base).map_err(local)?;
    let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(files::read_secret(cx, file.as_ref())?),
        None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let header = token.as_deref().map(|token| ("Authorization", token));
    let path = if path.is_empty() { "/" } else { path };
    let answer = Client::new(&endpoint, &Tls::default())?.request(
        "GET",
        path,
        header.as_slice(),
        None,
        cx.deadline,
    )?;
    if answer.status != 200 {
        let what = anyhow!(
            "{endpoint}: no credentials of the container: status {}",
            answer.status
        );
        return Err(PoolError::new(PoolErrorKind::Refused, what));
    }
    Role::read(&answer.body, base)
}

fn instance(settings: &Settings, cx: &Context) -> Result<Credentials, PoolError> {
    const ROLES: &str = "iam/security-credentials/";
    let metadata = Metadata::open(settings, cx)?;
    let Some(role) = metadata
        .get(ROLES)?
        .filter(|roles| !roles.trim().is_empty())
    else {
        let what = "this instance has no role: attach one that may describe, register and deregister targets";
        return Err(PoolError::new(PoolErrorKind::Refused, anyhow!(what)));
    };
    let role = role.lines().next().unwrap_or_default().trim();
    let path = format!("{ROLES}{}", crate::world::http::encode(role));
    let told = metadata.get(&path)?.unwrap_or_default();
    Role::read(told.as_bytes(), &settings.metadata)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::world::{Deadline, Root};

    fn cx(dir: &std::path::Path) -> Context {
        Context {
            deadline: Deadline::after(Duration::from_secs(10)),
            root: Root::at(dir),
        }
    }

    #[test]
    fn a_file_that_is_named_counts_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# of ours\n[other]\naws_access_key_id = no\n[default]\naws_access_key_id=AKID\naws_secret_access_key = s=e\n";
        std::fs::write(dir.path().join("aws"), text).unwrap();
        let mut settings = Settings::default();
        let env = |name: &str| (name != "AWS_SESSION_TOKEN").then(|| "env".to_owned());
        let found = find(&settings, &cx(dir.path()), &env).unwrap_or_else(|_| unreachable!());
        assert_eq!((found.id.as_str(), found.token), ("env", None));
        settings.credentials_file = Some("/aws".into());
        let found = find(&settings, &cx(dir.path()), &env).unwrap_or_else(|_| unreachable!());
        assert_eq!((found.id.as_str(), found.secret.as_str()), ("AKID", "s=e"));
        std::fs::write(dir.path().join("aws"), "[profile]\n").unwrap();
        let error = find(&settings, &cx(dir.path()), &env).err().unwrap();
        assert!(error.to_string().starts_with("/aws: no aws_"), "{error}");
    }

    #[test]
    fn a_container_tells_its_role_to_whom_it_gave_a_token() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "s3cr3t\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            let role = r#"{"AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":"x"}"#;
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{role}",
                role.len()
            )
            .unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        let env = |name: &str| match name {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(format!("http://{address}/v1/role?x")),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => Some("/token".to_owned()),
            _ => None,
        };
        let found = find(&Settings::default(), &cx(dir.path()), &env);
        let found = found.unwrap_or_else(|_| unreachable!());
        assert_eq!(found.token.as_deref(), Some("T"));
        let head = server.join().unwrap();
        assert!(head.starts_with("get /v1/role?x http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: s3cr3t\r\n"), "{head}");
    }
}
