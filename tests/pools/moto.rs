//! moto, which does what AWS does: one process a test, which checks signatures.

use std::process::Command;

use tempfile::TempDir;

use crate::support::{Daemon, ask, cache, eventually, free_port, not_provided};

/// Where everything is.
pub(crate) const REGION: &str = "eu-central-1";

/// An account with a user who may drain, an instance, and groups.
pub(crate) struct Moto {
    port: u16,
    dir: TempDir,
    /// The instance.
    pub(crate) instance: String,
    _process: Daemon,
}

impl Moto {
    /// `None` where there is no moto.
    pub(crate) fn start() -> Option<Self> {
        let home = cache()
            .map(|cache| cache.join("moto"))
            .filter(|home| home.exists());
        let Some(home) = home else {
            not_provided("aws-target-group");
            return None;
        };
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut command = Command::new("python3");
        command
            .args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .env("PYTHONPATH", home)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let process = Daemon::start(&mut command, dir.path().join("log"));
        let mut moto = Self {
            port,
            dir,
            instance: String::new(),
            _process: process,
        };
        eventually("moto answers", || {
            ask(&moto.address(), "GET", "/moto-api/", &[], None).is_ok()
        });
        moto.account();
        Some(moto)
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    fn account(&mut self) {
        self.call("iam", "Action=CreateUser&UserName=drainer");
        let key = self.call("iam", "Action=CreateAccessKey&UserName=drainer");
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
            "elasticloadbalancing:DescribeTargetGroups","elasticloadbalancing:DescribeTargetHealth",
            "elasticloadbalancing:RegisterTargets","elasticloadbalancing:DeregisterTargets"]}]}"#;
        let policy = drainctl::world::http::encode(policy);
        self.call(
            "iam",
            &format!("Action=PutUserPolicy&UserName=drainer&PolicyName=p&PolicyDocument={policy}"),
        );
        let (id, secret) = (
            between(&key, "AccessKeyId"),
            between(&key, "SecretAccessKey"),
        );
        self.credentials("aws", &id, &secret);
        self.credentials("wrong", &id, "wr0ng-s3cr3t");
        let run = "Action=RunInstances&ImageId=ami-12c6146b&MinCount=1&MaxCount=1";
        self.instance = between(&self.call("ec2", run), "instanceId");
    }

    fn credentials(&self, file: &str, id: &str, secret: &str) {
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        std::fs::write(self.dir.path().join(file), text).unwrap();
    }

    /// The ARN of a new group whose targets are of `kind`: `instance` or `ip`.
    pub(crate) fn group(&self, name: &str, kind: &str) -> String {
        let vpc = between(&self.call("ec2", "Action=DescribeVpcs"), "vpcId");
        let made = self.elb(&format!(
            "Action=CreateTargetGroup&Name={name}&Protocol=HTTP&Port=80&VpcId={vpc}&TargetType={kind}"
        ));
        between(&made, "TargetGroupArn")
    }

    /// What the service answers to the operator.
    pub(crate) fn elb(&self, form: &str) -> String {
        self.call("elasticloadbalancing", form)
    }

    /// What a service answers to the operator, for whose sake nobody looks at signatures.
    fn call(&self, service: &str, form: &str) -> String {
        self.look_at_signatures(false);
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=X/20150830/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let version = match service {
            "iam" => "2010-05-08",
            "ec2" => "2016-11-15",
            _ => "2015-12-01",
        };
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", scope.as_str()),
        ];
        let form = format!("{form}&Version={version}");
        let answer = ask(
            &self.address(),
            "POST",
            "/",
            &headers,
            Some(form.as_bytes()),
        )
        .unwrap();
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "{form}: {text}");
        self.look_at_signatures(true);
        text
    }

    fn look_at_signatures(&self, look: bool) {
        // So many calls are let through.
        let calls: &[u8] = if look { b"0" } else { b"9999" };
        let headers = [("Content-Type", "text/plain")];
        let answer = ask(
            &self.address(),
            "POST",
            "/moto-api/reset-auth",
            &headers,
            Some(calls),
        );
        assert_eq!(answer.unwrap().status, 200);
    }
}

/// The text of the first tag of this name.
pub(crate) fn between(xml: &str, tag: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{tag}>")).unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}
