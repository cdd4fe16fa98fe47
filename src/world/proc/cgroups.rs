//! Control groups, in the hierarchies that systemd uses.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{MOST, errno, read, unless_gone};
use crate::world::Root;

/// The control group in which systemd keeps a process, as a path from the hierarchy's root; `None` when it is gone.
///
/// # Errors
/// What the system says.
pub fn control_group(root: &Root, pid: u32) -> io::Result<Option<String>> {
    let lines = unless_gone(read(root, pid, "cgroup"))?;
    Ok(lines.map(|lines| {
        let of = |hierarchy: &str| {
            lines.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (name, path) = rest.split_once(':')?;
                (name == hierarchy).then(|| path.to_owned())
            })
        };
        // A v1 host has everything at the root of v2, and a v2 container on a v1 host everything at the root of
        // `name=systemd`: the one that says more is the one that systemd uses.
        of("")
            .filter(|path| path != "/")
            .or_else(|| of("name=systemd"))
            .unwrap_or_else(|| "/".to_owned())
    }))
}

/// The processes in a control group of systemd (`ControlGroup=` of a unit) and below it; none when the group is gone.
///
/// # Errors
/// What the system says; `NotFound` when no hierarchy that systemd uses is mounted.
pub fn pids_of_cgroup(root: &Root, control_group: &str) -> io::Result<Vec<u32>> {
    let (v2, v1) = hierarchies(root)?;
    if v2.is_none() && v1.is_none() {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            "no control group hierarchy is mounted",
        ));
    }
    let mut pids = Vec::new();
    // Hybrid hosts keep every process in both; pure v1 hosts only in the second, though v2 may be mounted.
    let dirs = [v2, v1].into_iter().flatten();
    let Some(top) = dirs
        .filter_map(|mount| mount.dir(control_group))
        .find(|dir| dir.exists())
    else {
        return Ok(pids);
    };
    walk(&top, &mut |dir| {
        let procs = match fs::read_to_string(dir.join("cgroup.procs")) {
            // A threaded group: its processes are listed by the group above, which is walked too.
            Err(error) if errno(&error) == Some(Errno::OPNOTSUPP) => return Ok(()),
            procs => unless_gone(procs)?.unwrap_or_default(),
        };
        // 0 stands for a process outside our own process id namespace.
        pids.extend(
            procs
                .lines()
                .filter_map(|line| line.parse::<u32>().ok())
                .filter(|&pid| pid != 0),
        );
        Ok(())
    })?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// The kernel's ids of a control group and of all below it, as sock_diag reports and filters them. Empty when this host has no
/// v2 group of that name: then sockets can't be told by control group.
///
/// # Errors
/// What the system says.
pub fn cgroup_ids(root: &Root, control_group: &str) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    let (Some(v2), _) = hierarchies(root)? else {
        return Ok(ids);
    };
    let Some(top) = v2.dir(control_group) else {
        return Ok(ids);
    };
    walk(&top, &mut |dir| {
        if let Some(meta) = unless_gone(fs::metadata(dir))? {
            ids.push(meta.ino());
        }
        Ok(())
    })?;
    Ok(ids)
}

/// The kernel's id of every control group, with its path from the hierarchy's root. Empty on a host without the v2 hierarchy.
///
/// # Errors
/// What the system says.
pub fn cgroups(root: &Root) -> io::Result<Vec<(u64, String)>> {
    let mut groups = Vec::new();
    let (Some(v2), _) = hierarchies(root)? else {
        return Ok(groups);
    };
    let top = v2.mount.clone();
    walk(&top, &mut |dir| {
        if let (Some(meta), Ok(below)) = (unless_gone(fs::metadata(dir))?, dir.strip_prefix(&top)) {
            let path = Path::new(&v2.top).join(below);
            groups.push((meta.ino(), path.to_string_lossy().into_owned()));
        }
        Ok(())
    })?;
    Ok(groups)
}

/// Where a hierarchy is mounted, and which of its groups is the mount's root.
struct Hierarchy {
    mount: PathBuf,
    top: String,
}

impl Hierarchy {
    /// The folder of a control group; `None` when it lies outside what is mounted.
    fn dir(&self, control_group: &str) -> Option<PathBuf> {
        let below = Path::new(control_group).strip_prefix(&self.top).ok()?;
        // A path that climbs would name another group.
        let plain = below
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| self.mount.join(below))
    }
}

/// The v2 hierarchy and the v1 hierarchy of systemd, as far as they are mounted.
fn hierarchies(root: &Root) -> io::Result<(Option<Hierarchy>, Option<Hierarchy>)> {
    let (mut v2, mut v1) = (None, None);
    for line in root.read("/proc/self/mountinfo", MOST)?.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let ([_, _, _, top, mount, ..], [kind, _, options, ..]) = (&before[..], &after[..]) else {
            continue;
        };
        let slot = match *kind {
            "cgroup2" => &mut v2,
            "cgroup" if options.split(',').any(|o| o == "name=systemd") => &mut v1,
            _ => continue,
        };
        slot.get_or_insert_with(|| Hierarchy {
            mount: root.path(mount),
            top: (*top).to_owned(),
        });
    }
    Ok((v2, v1))
}

/// Calls `visit` for a folder and all folders below it. Folders that vanish on the way are left out.
fn walk(top: &Path, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut ahead = vec![top.to_owned()];
    while let Some(dir) = ahead.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&dir))? else {
            continue;
        };
        visit(&dir)?;
        for entry in entries {
            let Some(entry) = unless_gone(entry)? else {
                break;
            };
            if unless_gone(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
                ahead.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    #[test]
    fn the_hierarchy_that_systemd_uses_names_the_group() {
        for (lines, path) in [
            ("0::/system.slice/a.service\n", "/system.slice/a.service"),
            ("1:name=systemd:/a.service\n0::/\n", "/a.service"),
            ("9:name=systemd:/\n0::/a.service\n", "/a.service"),
            ("9:name=systemd:/a:b.service\n8:pids:/x\n", "/a:b.service"),
            ("0::/\n", "/"),
        ] {
            let (_dir, root) = tree(&[("/proc/7/cgroup", lines)]);
            assert_eq!(control_group(&root, 7).unwrap().unwrap(), path);
        }
    }

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    const HYBRID: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn processes_of_a_group_include_those_below_it() {
        let (_dir, root) = tree(&[
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/a.service/cgroup.procs", "10\n0\n"),
            ("/sys/fs/cgroup/a.service/sub/deep/cgroup.procs", "9\n10\n"),
            ("/sys/fs/cgroup/a.service/sub/cgroup.procs", ""),
            ("/sys/fs/cgroup/b.service/cgroup.procs", "11\n"),
        ]);
        assert_eq!(pids_of_cgroup(&root, "/a.service").unwrap(), [9, 10]);
        assert_eq!(cgroup_ids(&root, "/a.service").unwrap().len(), 3);
        assert!(pids_of_cgroup(&root, "/gone.service").unwrap().is_empty());
        assert!(cgroup_ids(&root, "/gone.service").unwrap().is_empty());
        assert!(
            pids_of_cgroup(&root, "/a.service/../b.service")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_v1_host_has_processes_but_no_ids() {
        let (_dir, root) = tree(&[
            ("/proc/self/mountinfo", HYBRID),
            ("/sys/fs/cgroup/unified/cgroup.procs", "1\n"),
            ("/sys/fs/cgroup/systemd/a.service/cgroup.procs", "10\n"),
        ]);
        assert_eq!(pids_of_cgroup(&root, "/a.service").unwrap(), [10]);
        assert!(cgroup_ids(&root, "/a.service").unwrap().is_empty());
    }

    #[test]
    fn without_any_hierarchy_the_processes_are_unknown_and_not_none() {
        let (_dir, root) = tree(&[("/proc/self/mountinfo", "")]);
        assert!(pids_of_cgroup(&root, "/a.service").is_err());
    }
}
