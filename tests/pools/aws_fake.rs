//! What moto does not do: targets that drain, several of one instance, more than one page of groups; and an instance's metadata, which hands
//! out a role and answers only to those who ask in its second version.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use percent_encoding::percent_decode_str;

/// The instance.
pub(crate) const INSTANCE: &str = "i-0123456789abcdef0";
/// Its region.
pub(crate) const REGION: &str = "eu-central-1";
/// What its role signs with; never to be told.
pub(crate) const SECRET: &str = "5ec4e700-dead-4000-8000-00000000beef";
const KEY: &str = "ASIA5ec4e7";
const TOKEN: &str = "5ec4e700-metadata";

/// A target's id and port.
pub(crate) type Id = (String, u16);

/// A region with its groups: which targets each has, and their states.
#[derive(Clone, Default)]
pub(crate) struct AwsFake {
    address: String,
    groups: Arc<Mutex<BTreeMap<String, BTreeMap<Id, &'static str>>>>,
    /// Whether the instance has a role.
    roles: Arc<Mutex<bool>>,
    /// How often the role's credentials have ended and others taken their place.
    session: Arc<AtomicU32>,
    /// So many of the next calls are too many.
    throttled: Arc<AtomicU32>,
}

pub(crate) fn arn(name: &str) -> String {
    format!(
        "arn:aws:elasticloadbalancing:{REGION}:123456789012:targetgroup/{name}/0123456789abcdef"
    )
}

impl AwsFake {
    /// One with these groups. It lives as long as the test's process.
    pub(crate) fn start(groups: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let groups = groups.iter().map(|name| (arn(name), BTreeMap::new()));
        let fake = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            groups: Arc::new(Mutex::new(groups.collect())),
            roles: Arc::new(Mutex::new(true)),
            ..Self::default()
        };
        let server = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that is gone needs no answer.
                let _ = server.serve(&stream.unwrap());
            }
        });
        fake
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the instance has a role from now on.
    pub(crate) fn give_role(&self, given: bool) {
        *self.roles.lock().unwrap() = given;
    }

    /// What was handed out so far ends.
    pub(crate) fn end_session(&self) {
        self.session.fetch_add(1, Ordering::Relaxed);
    }

    /// The next calls are refused as too many.
    pub(crate) fn throttle(&self, calls: u32) {
        self.throttled.store(calls, Ordering::Relaxed);
    }

    /// The key and the session token of now.
    fn credentials(&self) -> (String, String) {
        let session = self.session.load(Ordering::Relaxed);
        (
            format!("{KEY}{session:02}"),
            format!("{SECRET}-token-{session}"),
        )
    }

    pub(crate) fn targets(&self, group: &str) -> BTreeMap<Id, &'static str> {
        self.groups.lock().unwrap()[&arn(group)].clone()
    }

    /// Registers a target, or takes it out, as an operator does.
    pub(crate) fn set(&self, group: &str, id: &str, port: u16, state: Option<&'static str>) {
        let mut groups = self.groups.lock().unwrap();
        let targets = groups.get_mut(&arn(group)).unwrap();
        match state {
            Some(state) => targets.insert((id.to_owned(), port), state),
            None => targets.remove(&(id.to_owned(), port)),
        };
    }

    /// Draining is over.
    pub(crate) fn finish(&self) {
        for targets in self.groups.lock().unwrap().values_mut() {
            targets.retain(|_, state| *state != "draining");
        }
    }

    /// A group is deleted.
    pub(crate) fn delete(&self, group: &str) {
        self.groups.lock().unwrap().remove(&arn(group));
    }

    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let lower = head.to_lowercase();
        let header = |name: &str| {
            let lines = lower.lines().map(|line| line.split_once(": "));
            lines
                .flatten()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let length = header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let words: Vec<&str> = head.split(' ').collect();
        let (status, answer) = if words[0] == "POST" {
            let signed = header("authorization").unwrap_or_default();
            let token = header("x-amz-security-token");
            self.balancing(&String::from_utf8(body).unwrap(), &signed, token.as_deref())
        } else {
            let token = header("x-aws-ec2-metadata-token");
            self.metadata(words[0], words[1], token.as_deref())
        };
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n\r\n{answer}"
        )
    }

    fn metadata(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        if (method, path) == ("PUT", "/latest/api/token") {
            return (200, TOKEN.to_owned());
        }
        if token != Some(TOKEN) {
            return (401, String::new());
        }
        let roles = "iam/security-credentials/";
        let has_role = *self.roles.lock().unwrap();
        let (key, session) = self.credentials();
        let answer = match path.strip_prefix("/latest/meta-data/").unwrap_or_default() {
            "instance-id" => INSTANCE.to_owned(),
            "local-ipv4" => "10.0.1.7".to_owned(),
            "placement/region" => REGION.to_owned(),
            path if path == roles && has_role => "drainer".to_owned(),
            path if path == format!("{roles}drainer") && has_role => format!(
                r#"{{"Code":"Success","AccessKeyId":"{key}","SecretAccessKey":"{SECRET}","Token":"{session}"}}"#
            ),
            _ => return (404, "<html>not found</html>".to_owned()),
        };
        (200, answer)
    }

    fn balancing(&self, form: &str, signed: &str, token: Option<&str>) -> (u16, String) {
        let form: BTreeMap<String, String> = form
            .split('&')
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((
                    key.to_owned(),
                    percent_decode_str(value).decode_utf8().ok()?.into_owned(),
                ))
            })
            .collect();
        let error = |status: u16, code: &str, text: &str| {
            (
                status,
                format!(
                    "<ErrorResponse><Error><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
                ),
            )
        };
        let scope = format!("/{REGION}/elasticloadbalancing/aws4_request");
        let (key, session) = self.credentials();
        let throttled = self.throttled.load(Ordering::Relaxed);
        if throttled > 0 {
            self.throttled.store(throttled - 1, Ordering::Relaxed);
            return error(400, "Throttling", "Rate exceeded");
        }
        let is_ours = signed.contains(&KEY.to_lowercase()) && signed.contains(&scope);
        if is_ours && token.is_some_and(|token| token.starts_with(SECRET) && token != session) {
            return error(
                403,
                "ExpiredToken",
                "The security token included in the request is expired",
            );
        }
        if !is_ours || !signed.contains(&key.to_lowercase()) || token != Some(&session) {
            // It repeats what it got, as the real one does.
            return error(
                403,
                "SignatureDoesNotMatch",
                &format!("not {signed} {}", token.unwrap_or_default()),
            );
        }
        let mut groups = self.groups.lock().unwrap();
        let action = form["Action"].as_str();
        if action == "DescribeTargetGroups" {
            // A group a page.
            let at: usize = form
                .get("Marker")
                .map_or(0, |marker| marker.parse().unwrap());
            let mut text = "<R><TargetGroups>".to_owned();
            for arn in groups.keys().skip(at).take(1) {
                let _ = write!(
                    text,
                    "<member><TargetGroupArn>{arn}</TargetGroupArn><TargetType>instance</TargetType></member>"
                );
            }
            text += "</TargetGroups>";
            if at + 1 < groups.len() {
                let _ = write!(text, "<NextMarker>{}</NextMarker>", at + 1);
            }
            return (200, text + "</R>");
        }
        let Some(targets) = groups.get_mut(&form["TargetGroupArn"]) else {
            return error(
                400,
                "TargetGroupNotFound",
                "One or more target groups not found",
            );
        };
        let members = (1..).map_while(|n| {
            let id = form.get(&format!("Targets.member.{n}.Id"))?.clone();
            // Real ones fall back to the group's port.
            let port = form.get(&format!("Targets.member.{n}.Port"));
            Some((id, port.map_or(80, |port| port.parse().unwrap())))
        });
        match action {
            "DescribeTargetHealth" => {}
            "DeregisterTargets" => {
                for id in members {
                    targets.entry(id).and_modify(|state| *state = "draining");
                }
            }
            "RegisterTargets" => {
                for id in members {
                    targets.insert(id, "initial");
                }
            }
            other => return error(400, "InvalidAction", other),
        }
        let mut text = "<R><TargetHealthDescriptions>".to_owned();
        for ((id, port), state) in &*targets {
            let _ = write!(
                text,
                "<member><Target><Id>{id}</Id><Port>{port}</Port></Target><TargetHealth><State>{state}</State></TargetHealth></member>"
            );
        }
        (200, text + "</TargetHealthDescriptions></R>")
    }
}
