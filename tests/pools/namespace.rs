//! Networks of a test's own: what one does to its kernel's tables, nobody else sees.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::{eventually, skipped};

/// A network namespace, kept by a process that waits for the end of its input.
pub(crate) struct Namespace {
    keeper: Child,
}

impl Namespace {
    /// A fresh one with `lo` up; `None` where none can be made.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let told = |why: &str| skipped(test, why);
        if !rustix::process::geteuid().is_root() {
            told("needs root for a network namespace");
            return None;
        }
        for (program, version) in [("nft", "--version"), ("ip", "-V")] {
            if Command::new(program).arg(version).output().is_err() {
                told(&format!("no {program} on this machine"));
                return None;
            }
        }
        let mut keeper = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        let read = keeper
            .stdout
            .as_mut()
            .map(|out| std::io::Read::read_exact(out, &mut up));
        let namespace = Self { keeper };
        if !matches!(read, Some(Ok(()))) {
            told("no network namespace can be made");
            return None;
        }
        Some(namespace)
    }

    pub(crate) fn pid(&self) -> String {
        self.keeper.id().to_string()
    }

    /// Moves the calling thread, and what it starts from now on.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/proc/{}/ns/net", self.keeper.id())).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// What a command in the calling thread's namespace prints.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Joins the calling thread's network, which becomes 10.9.0.1 and fd09::1, with `other`, which becomes 10.9.0.2 and fd09::2.
pub(crate) fn link(other: &Namespace) {
    let pid = other.pid();
    sh(&format!(
        "ip link add v1 type veth peer name v2 netns {pid}
         ip addr add 10.9.0.1/24 dev v1; ip addr add fd09::1/64 dev v1 nodad; ip link set v1 up
         nsenter --net=/proc/{pid}/ns/net sh -ec 'ip addr add 10.9.0.2/24 dev v2; ip addr add fd09::2/64 dev v2 nodad; ip link set v2 up'"
    ));
    eventually("the link is up", || {
        sh("ip -o link show v1").contains("state UP")
    });
}
