use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What the lab runs on this machine, by Debian package.
const PACKAGES: &[&str] = &[
    "chromium",
    "debian-archive-keyring",
    "fish",
    "g++",
    "groff-base",
    "haproxy",
    "iproute2",
    "mmdebstrap",
    "nftables",
    "nginx",
    "procps",
    "python3-pip",
    "python3-prometheus-client",
    "systemd-container",
    "util-linux",
    "zsh",
];

/// A Debian archive that this machine's apt already uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Archive {
    /// Its address.
    uri: String,
    /// A suite in it.
    suite: String,
}

/// Why the lab can't be built here, if so.
pub(crate) fn unfit() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root for namespaces and booted hosts");
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    (!release.contains("VERSION_CODENAME=bookworm"))
        .then_some("needs Debian 12, whose packages it is made of")
}

/// Why what needs `program` and a network namespace can't be run here, if so.
pub(crate) fn without(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join(program).exists()) {
        return Some(format!("needs {program}"));
    }
    let mut namespace = Command::new("unshare");
    namespace.args(["--user", "--map-root-user", "--net", "true"]);
    output(&mut namespace)
        .is_err()
        .then(|| "needs a network namespace (unshare)".to_owned())
}

/// Installs the packages that are missing.
///
/// # Errors
/// If apt can't.
pub(crate) fn install_packages() -> Result<()> {
    let missing: Vec<_> = PACKAGES.iter().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {missing:?}");
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .args(["-qq", "install", "-y", "--no-install-recommends"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The archives that hold this machine's own suite and its updates, from apt's settings.
///
/// # Errors
/// If apt names none.
pub(crate) fn archives() -> Result<Vec<Archive>> {
    let mut apt = Command::new("apt-get");
    apt.args([
        "indextargets",
        "--format",
        "$(REPO_URI)|$(CODENAME)|$(COMPONENT)",
        "Created-By: Packages",
    ]);
    let text = output(&mut apt)?;
    let archives: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('|');
            let (uri, suite, component) = (fields.next()?, fields.next()?, fields.next()?);
            let ours = suite.starts_with("bookworm") && component == "main";
            ours.then(|| Archive {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
            })
        })
        .collect();
    ensure!(
        archives.iter().any(|archive| archive.suite == "bookworm"),
        "apt knows no archive of bookworm; run apt-get update"
    );
    Ok(archives)
}

impl Archive {
    /// A line of apt's settings.
    pub(crate) fn line(&self) -> String {
        format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {} main",
            self.uri, self.suite
        )
    }

    /// Whether it is the suite itself, and not its updates: older and newer suites lie beside it.
    pub(crate) fn is_main(&self) -> bool {
        self.suite == "bookworm"
    }

    /// Another suite of the same archive.
    pub(crate) fn of(&self, suite: &str) -> Self {
        Self {
            uri: self.uri.clone(),
            suite: suite.to_owned(),
        }
    }
}

/// Runs a command quietly.
///
/// # Errors
/// If it fails; the error holds what it printed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn installed(package: &str) -> bool {
    let status = output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]));
    status.is_ok_and(|status| status == "install ok installed")
}
