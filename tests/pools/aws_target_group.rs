//! AWS's target groups: moto for what it does, and a fake for draining, for ports and for the metadata of an instance.

use std::fs;
use std::path::Path;

use drainctl::pools::{Looked, Membership, Peers, PoolErrorKind, Rejoined};
use drainctl::world::Root;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::aws_fake::{AwsFake, INSTANCE, SECRET, arn};
use crate::conformance::Fixture;
use crate::moto::Moto;
use crate::support::{becomes, cx, find, pool, read, said};

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    let mut fixtures: Vec<Box<dyn Fixture>> = vec![Box::new(Draining::start())];
    if let Some(moto) = Moto::start() {
        let group = moto.group("web", "instance");
        let real = Real { moto, group };
        real.put_back();
        fixtures.push(Box::new(real));
    }
    fixtures
}

/// moto, with a key from a file.
struct Real {
    moto: Moto,
    group: String,
}

impl Real {
    fn change(&self, action: &str) {
        let (group, instance) = (
            drainctl::world::http::encode(&self.group),
            &self.moto.instance,
        );
        self.moto.elb(&format!(
            "Action={action}&TargetGroupArn={group}&Targets.member.1.Id={instance}&Targets.member.1.Port=8080"
        ));
    }
}

impl Fixture for Real {
    fn name(&self) -> &'static str {
        "moto"
    }

    fn settings(&self) -> Value {
        json!({
            "endpoint": self.moto.address(), "target_groups": [self.group], "targets": [self.moto.instance],
            "credentials_file": "/aws", "a key of a later version": 1,
        })
    }

    fn dir(&self) -> &Path {
        self.moto.dir()
    }

    fn state(&self) -> Value {
        let group = drainctl::world::http::encode(&self.group);
        let seen = self.moto.elb(&format!(
            "Action=DescribeTargetHealth&TargetGroupArn={group}"
        ));
        seen.split("<RequestId>").next().unwrap_or_default().into()
    }

    fn take_out(&self) {
        // It refuses to take out what is not in.
        if !self.is_taken_out() {
            self.change("DeregisterTargets");
        }
    }

    fn put_back(&self) {
        self.change("RegisterTargets");
    }

    fn is_taken_out(&self) -> bool {
        !self.state().to_string().contains(&self.moto.instance)
    }

    fn mark_is_absence(&self) -> bool {
        true
    }

    /// It keeps nothing; AWS does not restart.
    fn restart(&mut self) {}

    fn receipt_0_1(&self) -> Value {
        self.take_out();
        let text = include_str!("receipts/aws-target-group-0.1.json")
            .replace("ADDRESS", &self.moto.address())
            .replace("GROUP", &self.group)
            .replace("INSTANCE", &self.moto.instance);
        serde_json::from_str(&text).unwrap()
    }
}

/// The fake, in which everything is found from the instance: its role, its name, its region, its groups. It is two targets of one group, and beside it
/// stands another instance.
struct Draining {
    fake: AwsFake,
    dir: TempDir,
}

const PORTS: [u16; 2] = [8080, 8081];

impl Draining {
    fn start() -> Self {
        let fake = AwsFake::start(&["api", "other", "web"]);
        fake.set("other", "i-other", 8080, Some("healthy"));
        fake.set("web", "i-other", 8080, Some("healthy"));
        let draining = Self {
            fake,
            dir: tempfile::tempdir().unwrap(),
        };
        draining.put_back();
        draining
    }

    fn set(&self, state: &'static str) {
        for port in PORTS {
            self.fake.set("web", INSTANCE, port, Some(state));
        }
        self.fake.set("api", "10.0.1.7", 80, Some(state));
    }
}

impl Fixture for Draining {
    fn name(&self) -> &'static str {
        "draining"
    }

    fn settings(&self) -> Value {
        let address = self.fake.address();
        json!({ "endpoint": address, "metadata": address, "a key of a later version": 1 })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Whether a target is new, or has been in for long, nobody could restore.
    fn state(&self) -> Value {
        let of = |group| {
            let targets = self.fake.targets(group).into_iter();
            targets
                .map(|(id, state)| json!([id, state == "draining"]))
                .collect::<Value>()
        };
        ["api", "other", "web"].map(of).into_iter().collect()
    }

    fn take_out(&self) {
        self.set("draining");
    }

    fn put_back(&self) {
        self.set("healthy");
    }

    fn is_taken_out(&self) -> bool {
        let web = self.fake.targets("web");
        PORTS
            .iter()
            .all(|port| web[&(INSTANCE.to_owned(), *port)] == "draining")
    }

    fn mark_is_absence(&self) -> bool {
        true
    }

    /// The draining ends while the host is away.
    fn restart(&mut self) {
        self.fake.finish();
    }

    fn receipt_0_1(&self) -> Value {
        self.take_out();
        let target = |id: &str, port: u16| json!({ "id": id, "port": port, "zone": null });
        let web: Value = PORTS
            .map(|port| target(INSTANCE, port))
            .into_iter()
            .collect();
        let registered = json!({ arn("web"): web, arn("api"): [target("10.0.1.7", 80)] });
        json!({ "settings": self.settings(), "before": { "registered": registered, "absent": [] } })
    }
}

fn draining() -> (AwsFake, TempDir, Value) {
    let Draining { fake, dir } = Draining::start();
    let settings = json!({ "endpoint": fake.address(), "metadata": fake.address() });
    (fake, dir, settings)
}

#[test]
fn exactly_the_ports_that_were_registered_leave_and_come_back() {
    let (fake, dir, settings) = draining();
    // Somebody has taken one of the two out; it stays out.
    fake.set("web", INSTANCE, 8081, None);
    let pool = pool("aws-target-group", settings);
    let cx = || cx(dir.path());
    let others = |healthy: u64, known: u64| {
        let of = "api".to_owned();
        Ok(Peers::Others { healthy, known, of })
    };
    assert_eq!(pool.peers(&cx()).map_err(drop), others(0, 0));
    fake.set("api", "10.0.1.8", 80, Some("healthy"));
    fake.set("api", "10.0.1.9", 80, Some("unhealthy"));
    assert_eq!(pool.peers(&cx()).map_err(drop), others(1, 2));
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    let web = fake.targets("web");
    assert_eq!(web[&(INSTANCE.to_owned(), 8080)], "draining");
    assert_eq!(web[&("i-other".to_owned(), 8080)], "healthy");
    assert_eq!(
        fake.targets("api")[&("10.0.1.7".to_owned(), 80)],
        "draining"
    );
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    assert_eq!(pool.peers(&cx()).unwrap(), Peers::Untold);
    // When the delay is over, nothing in the group tells any more that it was in there.
    fake.finish();
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    let web = fake.targets("web");
    assert_eq!(web[&(INSTANCE.to_owned(), 8080)], "initial");
    assert!(!web.contains_key(&(INSTANCE.to_owned(), 8081)), "{web:?}");
    assert_eq!(pool.status(&cx()).unwrap(), Membership::In);
    assert!(!before.to_string().contains(SECRET), "{before}");
}

#[test]
fn an_instance_in_no_group_has_nothing_to_leave() {
    let (fake, dir, settings) = draining();
    for port in PORTS {
        fake.set("web", INSTANCE, port, None);
    }
    fake.set("api", "10.0.1.7", 80, None);
    let pool = pool("aws-target-group", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::NotMember);
    assert_eq!(
        pool.rejoin(&cx(dir.path()), &before).unwrap(),
        Rejoined::Restored
    );
}

#[test]
fn a_group_that_is_not_there_is_named_and_one_that_was_deleted_holds_nothing_up() {
    let (fake, dir, mut settings) = draining();
    settings["target_groups"] = json!([arn("web"), arn("nobody")]);
    let wrong = pool("aws-target-group", settings.clone());
    settings["target_groups"] = json!([arn("nobody")]);
    let nowhere = pool("aws-target-group", settings.clone());
    // The other group is left nevertheless.
    let before = wrong.prepare(&cx(dir.path())).unwrap();
    for error in [
        wrong.leave(&cx(dir.path()), &before).unwrap_err(),
        wrong.status(&cx(dir.path())).unwrap_err(),
        nowhere.prepare(&cx(dir.path())).unwrap_err(),
    ] {
        assert_eq!(error.kind(), PoolErrorKind::NotMember, "{error}");
        assert!(error.to_string().contains("TargetGroupNotFound"), "{error}");
    }
    assert_eq!(
        fake.targets("web")[&(INSTANCE.to_owned(), 8080)],
        "draining"
    );
    assert_eq!(
        wrong.rejoin(&cx(dir.path()), &before).unwrap(),
        Rejoined::Restored
    );
    settings["target_groups"] = json!([arn("web"), arn("api")]);
    let pool = pool("aws-target-group", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    fake.delete("api");
    // The one that fails keeps us in no other.
    assert!(pool.leave(&cx(dir.path()), &before).is_err());
    assert_eq!(
        fake.targets("web")[&(INSTANCE.to_owned(), 8080)],
        "draining"
    );
    assert_eq!(
        pool.rejoin(&cx(dir.path()), &before).unwrap(),
        Rejoined::Restored
    );
    assert_eq!(fake.targets("web")[&(INSTANCE.to_owned(), 8080)], "initial");
}

#[test]
fn a_role_that_is_missing_is_refused_and_what_comes_back_is_never_told() {
    let (fake, dir, mut settings) = draining();
    fake.give_role(false);
    let error = pool("aws-target-group", settings.clone())
        .prepare(&cx(dir.path()))
        .unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Refused);
    assert!(error.to_string().contains("no role"), "{error}");
    // The fake repeats the token of whom it refuses.
    let text = format!(
        "[default]\naws_access_key_id=AKID\naws_secret_access_key=x\naws_session_token={SECRET}\n"
    );
    fs::write(dir.path().join("aws"), text).unwrap();
    settings["credentials_file"] = "/aws".into();
    let error = pool("aws-target-group", settings)
        .prepare(&cx(dir.path()))
        .unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Refused);
    assert!(
        said(&error, SECRET).contains("SignatureDoesNotMatch"),
        "{error}"
    );
}

#[test]
fn a_session_that_ends_between_leave_and_rejoin_is_followed_by_the_next_one() {
    let (fake, dir, mut settings) = draining();
    let pool = pool("aws-target-group", settings.clone());
    let cx = || cx(dir.path());
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    fake.end_session();
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    fake.end_session();
    // As another process finds it, after a reboot.
    let pool = crate::support::pool("aws-target-group", settings.clone());
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    assert_eq!(pool.status(&cx()).unwrap(), Membership::In);
    // One that somebody wrote down does not last.
    let text = format!(
        "[default]\naws_access_key_id=ASIA5ec4e702\naws_secret_access_key={SECRET}\naws_session_token={SECRET}-token-2\n"
    );
    fs::write(dir.path().join("aws"), text).unwrap();
    settings["credentials_file"] = "/aws".into();
    let pool = crate::support::pool("aws-target-group", settings);
    let before = pool.prepare(&cx()).unwrap();
    fake.end_session();
    let error = pool.leave(&cx(), &before).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Refused);
    assert!(said(&error, SECRET).contains("ExpiredToken"), "{error}");
}

#[test]
fn too_many_calls_are_worth_another_try() {
    let (fake, dir, settings) = draining();
    let pool = pool("aws-target-group", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    fake.throttle(1);
    let error = pool.leave(&cx(dir.path()), &before).unwrap_err();
    assert!(error.kind().may_pass(), "{error}");
    assert!(error.to_string().contains("Throttling"), "{error}");
    pool.leave(&cx(dir.path()), &before).unwrap();
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::Out);
    fake.throttle(1);
    assert!(pool.rejoin(&cx(dir.path()), &before).is_err());
    assert_eq!(
        pool.rejoin(&cx(dir.path()), &before).unwrap(),
        Rejoined::Restored
    );
}

#[test]
fn a_wrong_key_is_refused_by_a_server_that_checks_signatures() {
    let Some(moto) = Moto::start() else {
        return;
    };
    let group = moto.group("ips", "ip");
    let register = "Action=RegisterTargets&Targets.member.1.Id=10.0.1.7&Targets.member.1.Port=8080";
    moto.elb(&format!(
        "{register}&TargetGroupArn={}",
        drainctl::world::http::encode(&group)
    ));
    let mut settings = json!({
        "endpoint": moto.address(), "targets": ["10.0.1.7"], "region": crate::moto::REGION, "credentials_file": "/wrong",
    });
    let cx = || cx(moto.dir());
    let error = pool("aws-target-group", settings.clone())
        .status(&cx())
        .unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Refused, "{error}");
    let told = said(&error, "wr0ng-s3cr3t");
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
    // With the right one, the group is found by the address that it knows.
    settings["credentials_file"] = "/aws".into();
    let pool = pool("aws-target-group", settings);
    let before = pool.prepare(&cx()).unwrap();
    assert_eq!(before["registered"][&group][0]["id"], "10.0.1.7");
    pool.leave(&cx(), &before).unwrap();
    becomes(pool.as_ref(), moto.dir(), Membership::Out);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    becomes(pool.as_ref(), moto.dir(), Membership::In);
}

#[test]
fn an_instance_of_ec2_is_found_in_its_groups_and_nothing_else_is_asked() {
    let (fake, dir, settings) = draining();
    let root = Root::at(dir.path());
    assert_eq!(
        find("aws-target-group", &root, &settings),
        Looked::default()
    );
    root.replace("/sys/class/dmi/id/sys_vendor", b"Amazon EC2\n", 0o644)
        .unwrap();
    let looked = find("aws-target-group", &root, &settings);
    let [pool] = &looked.found[..] else {
        panic!("{looked:?}");
    };
    assert_eq!(
        pool.why,
        format!(
            "this instance is in the target groups api as 10.0.1.7:80, web as {INSTANCE}:8080, web as {INSTANCE}:8081"
        )
    );
    assert_eq!(
        pool.keys,
        [("target_groups".to_owned(), json!([arn("api"), arn("web")]))]
    );
    fake.give_role(false);
    let looked = find("aws-target-group", &root, &settings);
    assert!(
        looked.found.is_empty() && looked.remarks[0].contains("no role"),
        "{looked:?}"
    );
}

#[test]
fn settings_are_checked_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    fs::write(dir.path().join("aws"), "").unwrap();
    let read = |text: &str| read("aws-target-group", Some(&root), text);
    assert_eq!(
        read(""),
        r#"{"ca_file":null,"credentials_file":null,"endpoint":null,"metadata":"http://169.254.169.254","region":null,"target_groups":[],"targets":[]}"#
    );
    let text = format!(
        "target_groups = [\n\"{0}\",\n\"web\",\n\"{0}\"]\ntargets = [\"web1\"]\nregion = \"EU\"\ncredentials_file = \"/aws\"\n\
         endpoint = \"http://host/path\"\nmetadata = \"169.254.169.254\"\nca_file = \"x\"\ntarget_group = 1",
        arn("web")
    );
    insta::assert_snapshot!(read(&text), @r#"
    text:3: target_groups: must be a target group's ARN, like "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web/0123456789abcdef"
    text:4: target_groups: is named twice; remove one
    text:5: targets: must be an instance's id, like "i-0123456789abcdef0", or an address
    text:6: region: must be a region's name, like "eu-central-1"
    text:7: credentials_file: can be read by every user; `chmod 600` it
    text:8: endpoint: must be http:// or https://, a host, and no path
    text:9: metadata: an address begins with http://, https:// or unix:///
    text:10: ca_file: must be an absolute path
    text:11: unknown key `target_group`; did you mean `target_groups`?
    "#);
}
