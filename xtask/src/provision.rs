use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine::{self, Archive, run};
use crate::tools::cache;

/// A root file system of the lab's hosts.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// Begins its name in the cache.
    prefix: &'static str,
    /// Debian's suite.
    suite: &'static str,
    /// What a host consists of, beside the smallest Debian.
    packages: &'static str,
    /// Services that only some cases want: there, and not enabled.
    asleep: &'static [&'static str],
}

/// The hosts of all cases: systemd 252.
pub(crate) const BOOKWORM: Recipe = Recipe {
    prefix: "root",
    suite: "bookworm",
    packages: "systemd,systemd-sysv,dbus,ifupdown,iproute2,procps,curl,nftables,python3,supervisor,\
    gunicorn,uvicorn,nodejs,nginx-light,postgresql,python3-psycopg2,redis-server,python3-redis",
    asleep: &[
        "nginx.service",
        "postgresql.service",
        "redis-server.service",
    ],
};
/// The same with systemd 257, and only what the main cases want.
pub(crate) const TRIXIE: Recipe = Recipe {
    prefix: "trixie",
    suite: "trixie",
    packages: "systemd,systemd-sysv,dbus,ifupdown,iproute2,procps,curl,nftables,python3,supervisor,gunicorn,\
    redis-server,python3-redis",
    asleep: &["redis-server.service"],
};

/// Changes with every step below, so that an older root is not taken for one of this recipe.
const RECIPE: u32 = 2;
/// Ends the names of unfinished builds.
const PARTIAL: &str = ".partial";
/// The unit of Debian's package, its program, its settings and its state.
const CONSUL_FILES: [&str; 5] = [
    "./usr/bin/consul",
    "./lib/systemd/system/consul.service",
    "./etc/consul.d",
    "./etc/default/consul",
    "./var/lib/consul",
];

/// A root file system of the lab's hosts, from the cache or built now.
///
/// # Errors
/// If the machine's packages or the root can't be had.
pub(crate) fn root(recipe: &Recipe) -> Result<PathBuf> {
    machine::install_packages()?;
    let mut hasher = DefaultHasher::new();
    (RECIPE, recipe.packages, recipe.asleep, CONSUL_FILES).hash(&mut hasher);
    let cache = cache()?;
    let name = format!("{}-{:016x}", recipe.prefix, hasher.finish());
    let root = cache.join(name);
    // One build at a time; the lock goes with the process, so a dead one holds nobody up.
    let lock = File::create(cache.join("root.lock"))?;
    lock.lock()?;
    if !root.exists() {
        eprintln!("building {}, a few minutes", root.display());
        remove_partials(&cache)?;
        let partial = cache.join(format!("root.{}{PARTIAL}", std::process::id()));
        fs::create_dir(&partial)?;
        build(&partial, recipe)?;
        // Only a finished root gets the name.
        fs::rename(partial.join("root"), &root)?;
        fs::remove_dir_all(&partial)?;
    }
    Ok(root)
}

/// What interrupted builds left; the lock says that none goes on.
fn remove_partials(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(PARTIAL) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

fn build(dir: &Path, recipe: &Recipe) -> Result<()> {
    let archives = machine::archives()?;
    let main = archives
        .iter()
        .find(|archive| archive.is_main())
        .context("no archive of this machine's own suite")?;
    let sources: Vec<String> = if recipe.suite == BOOKWORM.suite {
        archives.iter().map(Archive::line).collect()
    } else {
        vec![main.of(recipe.suite).line()]
    };
    let root = dir.join("root");
    // Whatever interrupts this, the kernel takes its processes and mounts away.
    let mut debian = Command::new("setpriv");
    debian
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .args(["--mount", "--mount-proc", "--", "mmdebstrap"])
        .args([
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            "--include",
            recipe.packages,
            recipe.suite,
        ])
        .arg(&root);
    run(debian.args(sources))?;
    run(Command::new("systemctl")
        .arg("--root")
        .arg(&root)
        .arg("disable")
        .args(recipe.asleep))?;
    consul(dir, &root, &main.of("bullseye"))
}

/// Consul is in no newer suite: its package is unpacked as it is, unit and all, without a mix of suites.
fn consul(dir: &Path, root: &Path, bullseye: &Archive) -> Result<()> {
    let apt = dir.join("apt");
    fs::create_dir_all(apt.join("lists/partial"))?;
    fs::create_dir_all(apt.join("cache/archives/partial"))?;
    fs::write(apt.join("sources.list"), bullseye.line())?;
    let option = |name: &str, path: &Path| format!("-o{name}={}", path.display());
    let options = [
        option("Dir::Etc::sourcelist", &apt.join("sources.list")),
        option("Dir::Etc::sourceparts", Path::new("/dev/null")),
        option("Dir::State::lists", &apt.join("lists")),
        option("Dir::Cache", &apt.join("cache")),
        "-oAPT::Sandbox::User=root".to_owned(),
    ];
    run(Command::new("apt-get")
        .args(&options)
        .args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .args(&options)
        .args(["-qq", "download", "consul"])
        .current_dir(&apt))?;
    let package = fs::read_dir(&apt)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension() == Some(OsStr::new("deb")))
        .context("apt downloaded no package of Consul")?;
    let tar = apt.join("consul.tar");
    run(Command::new("sh")
        .arg("-c")
        .arg(r#"dpkg-deb --fsys-tarfile "$1" >"$2""#)
        .arg("sh")
        .arg(package)
        .arg(&tar))?;
    // /lib is a link in this root and must stay one.
    run(Command::new("tar")
        .arg("-xf")
        .arg(&tar)
        .arg("-C")
        .arg(root)
        .arg("--keep-directory-symlink")
        .args(CONSUL_FILES))?;
    fs::write(
        root.join("usr/lib/sysusers.d/consul.conf"),
        "u consul - \"Consul agent\" /var/lib/consul\n",
    )?;
    run(Command::new("systemd-sysusers").arg("--root").arg(root))?;
    run(Command::new("chroot")
        .arg(root)
        .args(["chown", "consul:", "/var/lib/consul"]))?;
    run(Command::new("systemctl")
        .arg("--root")
        .arg(root)
        .args(["enable", "consul.service"]))
}
