//! How long well-known servers let requests run on once they were told to end: from their own command line, or the file that it names.

use std::path::PathBuf;
use std::time::Duration;

use crate::world::Root;

/// The most that a config file may hold, in bytes.
const MOST: u64 = 1 << 20;

/// One server's patience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    /// The program of supervisord, or the unit.
    pub program: String,
    /// The server.
    pub server: &'static str,
    /// How long; [`Duration::MAX`] for as long as it takes.
    pub time: Duration,
    /// Where it is set.
    pub set: String,
}

/// A server that is known.
struct Known {
    name: &'static str,
    /// Its option, and its setting in the file; empty where there is none.
    option: &'static str,
    setting: &'static str,
    /// Without either; `None`: as long as it takes.
    default: Option<u64>,
}

/// What SIGTERM makes of them, by their manuals.
const KNOWN: &[Known] = &[
    known(
        "gunicorn",
        "--graceful-timeout",
        "graceful_timeout",
        Some(30),
    ),
    known("uvicorn", "--timeout-graceful-shutdown", "", None),
    known(
        "hypercorn",
        "--graceful-timeout",
        "graceful_timeout",
        Some(3),
    ),
    known(
        "uwsgi",
        "--worker-reload-mercy",
        "worker-reload-mercy",
        Some(60),
    ),
    known("puma", "", "force_shutdown_after", None),
    // These end at once, whatever they are doing.
    known("unicorn", "", "", Some(0)),
    known("nginx", "", "", Some(0)),
    known("apache2", "", "", Some(0)),
    known("httpd", "", "", Some(0)),
    known("php-fpm", "", "", Some(0)),
];

const fn known(
    name: &'static str,
    option: &'static str,
    setting: &'static str,
    default: Option<u64>,
) -> Known {
    Known {
        name,
        option,
        setting,
        default,
    }
}

/// The patience of the server with this command line and working folder; `None` where it is none that is known.
pub(super) fn of(root: &Root, program: &str, arguments: &[String], folder: &str) -> Option<Grace> {
    let at = arguments
        .iter()
        .take(3)
        .position(|word| server(word).is_some())?;
    let known = server(&arguments[at])?;
    let options = &arguments[at + 1..];
    let seconds = |text: &str| text.trim().trim_matches(['"', '\'']).parse::<u64>().ok();
    let grace = |time: Option<u64>, set: String| Grace {
        program: program.to_owned(),
        server: known.name,
        time: time.map_or(Duration::MAX, Duration::from_secs),
        set,
    };
    if let Some(time) = value(options, known.option).and_then(seconds) {
        return Some(grace(Some(time), known.option.to_owned()));
    }
    let named = value(options, "--config").or_else(|| value(options, "-c"));
    // gunicorn reads this one by itself.
    let own = (known.name == "gunicorn").then_some("gunicorn.conf.py");
    if let Some(file) = named.or(own).filter(|_| !known.setting.is_empty()) {
        let file = file
            .trim_start_matches("file:")
            .trim_start_matches("python:");
        let path = PathBuf::from(folder).join(file);
        let text = root.read(&path, MOST).unwrap_or_default();
        let set = |line: &str| {
            let (key, value) = line.split_once(['=', ':'])?;
            let value = value.split('#').next().unwrap_or(value);
            (key.trim() == known.setting).then(|| seconds(value))?
        };
        if let Some(time) = text.lines().rev().find_map(set) {
            return Some(grace(
                Some(time),
                format!("{} in {}", known.setting, path.display()),
            ));
        }
    }
    let set = match (known.option, known.setting) {
        ("", "") => format!("{} has no setting for it", known.name),
        ("", setting) => format!("{setting}, at its default"),
        (option, _) => format!("{option}, at its default"),
    };
    Some(grace(known.default, set))
}

/// The server that a word of a command line names, by path, as a module, or by the title that it gives itself.
fn server(word: &str) -> Option<&'static Known> {
    let name = word.rsplit('/').next().unwrap_or(word);
    let name = name.split([':', ' ']).next().unwrap_or(name);
    KNOWN.iter().find(|known| known.name == name)
}

/// The value of an option: the next word, or what follows an equals sign.
fn value<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    if name.is_empty() {
        return None;
    }
    options.iter().enumerate().find_map(|(at, word)| {
        if word == name {
            return options.get(at + 1).map(String::as_str);
        }
        word.strip_prefix(name)?.strip_prefix('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grace(line: &str, file: &str) -> Option<(u64, String)> {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.replace("/srv/conf.py", file.as_bytes(), 0o644)
            .unwrap();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let grace = of(&root, "web", &words, "/srv")?;
        Some((grace.time.as_secs(), grace.set))
    }

    #[test]
    fn a_servers_patience_is_where_it_says_or_by_its_manual() {
        let set = |line, file| grace(line, file).map(|(time, _)| time);
        for (line, time) in [
            ("/usr/bin/python3 /usr/bin/gunicorn app:app", Some(30)),
            ("gunicorn --graceful-timeout 90 app:app", Some(90)),
            (
                "gunicorn --graceful-timeout=90 -c conf.py app:app",
                Some(90),
            ),
            ("gunicorn -c conf.py app:app", Some(45)),
            ("gunicorn: master [app:app]", Some(30)),
            ("/opt/venv/bin/python -m uvicorn app:app", Some(u64::MAX)),
            ("uvicorn app:app --timeout-graceful-shutdown 7", Some(7)),
            (
                "nginx: master process /usr/sbin/nginx -g daemon off;",
                Some(0),
            ),
            ("/usr/bin/python3 /opt/lab/app.py 8000", None),
            ("vim gunicorn-notes.txt", None),
        ] {
            assert_eq!(
                set(
                    line,
                    "# graceful_timeout = 1\ngraceful_timeout = 45  # long\n"
                ),
                time,
                "{line}"
            );
        }
        let (_, set) = grace("gunicorn -c conf.py app", "graceful_timeout = 45").unwrap();
        assert_eq!(set, "graceful_timeout in /srv/conf.py");
        let (time, set) = grace("gunicorn -c other.py app", "").unwrap();
        assert_eq!(
            (time, set.as_str()),
            (30, "--graceful-timeout, at its default")
        );
    }
}
