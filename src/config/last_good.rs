//! The sources as they were when they were good last: a typo must not cost the drain.

use std::io;

use serde::{Deserialize, Serialize};

use super::files::{Source, find};
use super::read::read;
use super::{Faults, Loaded, Settings, from_sources};
use crate::receipts::STATE_DIR;
use crate::world::Root;

const NAME: &str = "last-good.json";
/// More than any config within its own limits takes as JSON; what is larger was not written by this program.
const MOST: u64 = 64 * 1024 * 1024;

/// The format of the file, for later versions.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    sources: Vec<Source>,
}

fn path() -> String {
    format!("{STATE_DIR}/{NAME}")
}

/// Keeps the sources of `loaded` for [`load_or_last_good`], readable by root only. Writes only when they have changed.
///
/// # Errors
/// What the system says; what was kept before is still there then.
pub fn keep_last_good(root: &Root, loaded: &Loaded) -> io::Result<()> {
    if kept(root).is_ok_and(|kept| kept.sources == loaded.sources) {
        return Ok(());
    }
    let text = serde_json::to_vec(&Kept {
        version: 1,
        sources: loaded.sources.clone(),
    })?;
    root.replace(path(), &text, 0o600)
}

fn kept(root: &Root) -> io::Result<Kept> {
    let text = root.read(path(), MOST)?;
    let kept: Kept = serde_json::from_str(&text)?;
    if kept.version != 1 {
        return Err(io::Error::other("written by another version"));
    }
    Ok(kept)
}

/// Settings whatever the config looks like, and what to say about it: one fault a line, then what was taken instead.
///
/// In this order: the config, if nothing but the environment is amiss; what [`keep_last_good`] kept; of a config with faults in its
/// values, what is sound (a table with a fault counts with its defaults, a pool with one is left out); the defaults, where a file
/// can't be read or trusted.
#[must_use]
pub fn load_or_last_good(root: &Root) -> (Settings, Vec<String>) {
    let (sources, file_faults) = find(root);
    let fresh = read(Some(root), &sources);
    let trusted = file_faults.is_empty();
    let faults: Faults = file_faults.into_iter().chain(fresh.faults).collect();
    let mut said: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if faults.only_environment() {
        return (fresh.settings, said);
    }
    let why = match kept(root) {
        Ok(kept) => match from_sources(&kept.sources) {
            Ok(settings) => {
                said.push(format!(
                    "the config has faults: going on with the last good one, kept in {}",
                    path()
                ));
                return (settings, said);
            }
            Err(_) => "the last good one is not valid for this version".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => "no good one is kept".to_owned(),
        Err(error) => format!("the last good one, {}, can't be read ({error})", path()),
    };
    if trusted {
        said.push(format!(
            "the config has faults, and {why}: going on with what is sound; tables with a fault count with their defaults, pools with one are left out"
        ));
        (fresh.settings, said)
    } else {
        said.push(format!(
            "the config has faults, and {why}: going on with the defaults"
        ));
        (Settings::default(), said)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::config::{MAIN, load};

    #[test]
    fn a_typo_does_not_cost_the_last_good_settings() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let write = |text: &str| {
            root.replace(MAIN, text.as_bytes(), 0o644).unwrap();
        };
        write("[deadline]\nshutdown = \"2m\"\n");
        let good = load(&root).unwrap();
        keep_last_good(&root, &good).unwrap();
        let kept = fs::metadata(root.path(path())).unwrap();
        assert_eq!(kept.permissions().mode() & 0o777, 0o600);
        keep_last_good(&root, &good).unwrap();
        let again = fs::metadata(root.path(path())).unwrap();
        assert_eq!(
            kept.ino(),
            again.ino(),
            "written though nothing has changed"
        );

        write("[deadline]\nshutdwn = \"3m\"\n");
        let (settings, said) = load_or_last_good(&root);
        assert_eq!(settings, good.settings);
        assert_eq!(said.len(), 2, "{said:?}");

        write("[deadline]\nshutdown = \"3m\"\n");
        keep_last_good(&root, &load(&root).unwrap()).unwrap();
        write("=");
        let (settings, _) = load_or_last_good(&root);
        assert_eq!(settings.deadline.shutdown.as_secs(), 180);
    }

    #[test]
    fn a_last_good_file_that_is_not_ours_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.replace(MAIN, b"=", 0o644).unwrap();
        for (kept, why) in [
            (&b"{}"[..], "can't be read"),
            (b"\xff", "can't be read"),
            (br#"{"version":2,"sources":[]}"#, "another version"),
            (
                br#"{"version":1,"sources":[{"path":"a","text":"b = 1"}]}"#,
                "not valid for this version",
            ),
        ] {
            root.replace(path(), kept, 0o600).unwrap();
            let (settings, said) = load_or_last_good(&root);
            assert_eq!(settings, Settings::default());
            assert!(said.last().unwrap().contains(why), "{said:?}");
        }
    }
}
