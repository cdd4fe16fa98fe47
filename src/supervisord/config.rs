//! Where supervisord listens: from the config file that its own command line names.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::Error;
use crate::world::{Root, proc};

/// The most that a config file may hold, in bytes.
const MOST: u64 = 1 << 20;

/// An interface of supervisord. The password is a secret.
#[derive(PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: String,
    pub(super) login: Option<(String, String)>,
    /// The file that says so.
    pub(super) file: String,
}

/// The interface of the supervisord `pid`, started by `program` with `options`.
pub(super) fn server(
    root: &Root,
    pid: u32,
    program: &[String],
    options: &[String],
) -> Result<Server, Error> {
    let local = |what: String| move |source| Error::Local { what, source };
    let cwd = proc::working_dir(root, pid)
        .map_err(local(format!("working folder of process {pid}")))?
        .unwrap_or_else(|| PathBuf::from("/"));
    let file = match chosen(options) {
        Some(file) => cwd.join(file),
        None => searched(program.last().map_or("", String::as_str), &cwd)
            .into_iter()
            .find(|file| root.exists(file))
            .ok_or_else(|| Error::Config {
                file: "supervisord.conf".to_owned(),
                fault: "in none of the places where supervisord looks".to_owned(),
            })?,
    };
    let name = file.display().to_string();
    let text = root.read(&file, MOST).map_err(local(name.clone()))?;
    let here = file.parent().unwrap_or(Path::new("/"));
    match find(&text, here, &cwd) {
        Ok((address, login)) => Ok(Server {
            address,
            login,
            file: name,
        }),
        Err(fault) => Err(Error::Config {
            file: name,
            fault: fault.to_owned(),
        }),
    }
}

/// A name among the files that `file` includes which is read after all others: supervisord reads them in the order of their names, and a later
/// value wins.
pub(super) fn last_word(root: &Root, file: &str) -> Option<String> {
    let text = root.read(file, MOST).ok()?;
    let sections = sections(&text);
    let (_, include) = sections.iter().find(|(name, _)| name == "include")?;
    let (_, files) = include.iter().rev().find(|(key, _)| key == "files")?;
    let here = Path::new(file).parent()?;
    let pattern = expand(files.split_whitespace().last()?, here).ok()?;
    let (folder, name) = pattern.rsplit_once('/').unwrap_or((".", &pattern));
    let ending = name.strip_prefix('*').filter(|rest| !rest.contains('*'))?;
    let path = here.join(folder).join(format!("zz-drainctl{ending}"));
    Some(path.display().to_string())
}

/// The file of `-c FILE`, `-cFILE`, `--configuration FILE` or `--configuration=FILE`, or of an abbreviation, as getopt takes them.
fn chosen(options: &[String]) -> Option<&str> {
    let mut options = options.iter().map(String::as_str);
    while let Some(option) = options.next() {
        if let Some(long) = option.strip_prefix("--") {
            let (key, value) = match long.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (long, None),
            };
            if key.starts_with('c') && "configuration".starts_with(key) {
                return value.or_else(|| options.next());
            }
        } else if let Some(short) = option.strip_prefix("-c") {
            return if short.is_empty() {
                options.next()
            } else {
                Some(short)
            };
        }
    }
    None
}

/// Where supervisord looks when it is told nothing, in its order.
fn searched(program: &str, cwd: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(prefix) = Path::new(program).parent().and_then(Path::parent) {
        places.push(prefix.join("etc/supervisord.conf"));
        places.push(prefix.join("supervisord.conf"));
    }
    places.push(cwd.join("supervisord.conf"));
    places.push(cwd.join("etc/supervisord.conf"));
    places.push(PathBuf::from("/etc/supervisord.conf"));
    places.push(PathBuf::from("/etc/supervisor/supervisord.conf"));
    places
}

type Found = (String, Option<(String, String)>);

/// The address and the login that a config gives: the Unix socket, else the TCP one.
fn find(text: &str, here: &Path, cwd: &Path) -> Result<Found, &'static str> {
    let sections = sections(text);
    let get = |name: &str, key: &str| {
        let of = |(section, _): &&(String, Vec<(String, String)>)| {
            // `[unix_http_server:second]` is one as well.
            section.split(':').next() == Some(name)
        };
        let (_, values) = sections.iter().find(of)?;
        // A key that stands twice: the last one holds, as for supervisord.
        values
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    };
    let (server, address) = if let Some(file) = get("unix_http_server", "file") {
        let file = cwd.join(expand(file, here)?);
        ("unix_http_server", format!("unix://{}", file.display()))
    } else if let Some(port) = get("inet_http_server", "port") {
        let port = expand(port, here)?;
        let (host, port) = port.rsplit_once(':').unwrap_or(("", &port));
        let host = if matches!(host, "" | "*") {
            "127.0.0.1"
        } else {
            host
        };
        ("inet_http_server", format!("http://{host}:{port}"))
    } else {
        return Err("neither [unix_http_server] nor [inet_http_server]");
    };
    let login = |section: &str| {
        let user = expand(get(section, "username")?, here);
        let password = expand(get(section, "password")?, here);
        Some(user.and_then(|user| Ok((user, password?))))
    };
    let login = match login(server).transpose()? {
        // Only the hash stands there; the password itself is where supervisorctl finds it.
        Some((_, password)) if password.starts_with("{SHA}") => Some(
            login("supervisorctl")
                .transpose()?
                .ok_or("the password is hashed, and [supervisorctl] has none")?,
        ),
        login => login,
    };
    Ok((address, login))
}

/// The programs whose whole process group gets the signal that ends them, by the config `file` and those that it includes. What can't
/// be read says nothing.
pub(super) fn as_group(root: &Root, file: &str) -> HashSet<String> {
    let mut files = vec![PathBuf::from(file)];
    let here = Path::new(file).parent().unwrap_or(Path::new("/"));
    let text = root.read(file, MOST).unwrap_or_default();
    for (_, values) in sections(&text).iter().filter(|(name, _)| name == "include") {
        let patterns = values.iter().filter(|(key, _)| key == "files");
        for pattern in patterns.flat_map(|(_, value)| value.split_ascii_whitespace()) {
            files.extend(matching(root, &here.join(pattern)));
        }
    }
    let mut programs = HashSet::new();
    for file in files {
        let text = root.read(&file, MOST).unwrap_or_default();
        for (section, values) in sections(&text) {
            let set = |(key, value): &(String, String)| {
                key == "stopasgroup"
                    && matches!(value.to_lowercase().as_str(), "true" | "yes" | "on" | "1")
            };
            if let Some(program) = section.strip_prefix("program:")
                && values.iter().any(set)
            {
                programs.insert(program.to_owned());
            }
        }
    }
    programs
}

/// The files that a pattern with one `*` in its last part names.
fn matching(root: &Root, pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (
        pattern.parent(),
        pattern.file_name().and_then(|n| n.to_str()),
    ) else {
        return Vec::new();
    };
    let (before, after) = name.split_once('*').unwrap_or((name, ""));
    let fits = |name: &str| {
        name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
    };
    let entries = std::fs::read_dir(root.path(dir))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| fits(name))
        .map(|name| dir.join(name))
        .collect()
}

/// Fills in what stands between `%(` and `)s`. Values from supervisord's environment are not ours to read.
fn expand(value: &str, here: &Path) -> Result<String, &'static str> {
    let value = value.replace("%(here)s", &here.display().to_string());
    if value.contains("%(") {
        return Err("an expansion other than %(here)s in the address or login of its interface");
    }
    Ok(value.replace("%%", "%"))
}

/// The sections of an ini file as Python's `configparser` reads them: keys in lower case, comments after `;` and `#`.
fn sections(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines() {
        // A line that is set in belongs to the value above it; no value of ours has a second line.
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let line = without_comment(line).trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.split(']').next())
        {
            sections.push((name.to_owned(), Vec::new()));
        } else if let (Some((key, value)), Some((_, values))) =
            (line.split_once(['=', ':']), sections.last_mut())
        {
            values.push((key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    sections
}

/// A comment begins a line or follows a space: `a;b` is a value.
fn without_comment(line: &str) -> &str {
    let begins = |&(at, c): &(usize, char)| {
        matches!(c, ';' | '#') && !line[..at].ends_with(|before: char| !before.is_whitespace())
    };
    let comment = line.char_indices().find(begins);
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Found, &'static str> {
        find(text, Path::new("/etc/supervisor"), Path::new("/srv"))
    }

    #[test]
    fn programs_whose_group_is_stopped_are_found_in_included_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for (file, text) in [
            (
                "supervisord.conf",
                "[include]\nfiles = conf.d/*.conf\n[program:a]\nstopasgroup=True ; all\n",
            ),
            ("conf.d/b.conf", "[program:b]\nstopasgroup = true\n"),
            ("conf.d/c.conf", "[program:c]\nstopasgroup = false\n"),
            ("conf.d/d.off", "[program:d]\nstopasgroup = true\n"),
        ] {
            let file = format!("/etc/{file}");
            root.replace(file, text.as_bytes(), 0o600).unwrap();
        }
        let mut found: Vec<_> = as_group(&root, "/etc/supervisord.conf")
            .into_iter()
            .collect();
        found.sort();
        assert_eq!(found, ["a", "b"]);
    }

    fn login(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn the_last_word_is_a_file_that_is_read_last() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let word = |text: &str| {
            root.replace("/etc/supervisor/a.conf", text.as_bytes(), 0o644)
                .unwrap();
            last_word(&root, "/etc/supervisor/a.conf")
        };
        let packaged = "[include]\nfiles = /etc/supervisor/conf.d/*.conf\n";
        let expected = "/etc/supervisor/conf.d/zz-drainctl.conf".to_owned();
        assert_eq!(word(packaged), Some(expected.clone()));
        assert_eq!(
            word("[include]\nfiles = x.ini conf.d/*.conf"),
            Some(expected)
        );
        assert_eq!(word("[include]\nfiles = /etc/one.conf\n"), None);
        assert_eq!(word("[supervisord]\n"), None);
    }

    #[test]
    fn the_packaged_config_is_read() {
        let text = "; supervisor config file\n\n[unix_http_server]\nfile=/var/run/supervisor.sock   ; (the path)\n\
                    chmod=0700                       ; mode\n\n[supervisord]\nlogfile=/var/log/x\n";
        assert_eq!(
            found(text).unwrap(),
            ("unix:///var/run/supervisor.sock".to_owned(), None)
        );
    }

    #[test]
    fn sockets_ports_and_logins_of_every_form() {
        for (text, address, expected) in [
            (
                "[unix_http_server]\nFile : %(here)s/a.sock\nusername = u\npassword = p;q#r%%s ;no\n",
                "unix:///etc/supervisor/a.sock",
                login("u", "p;q#r%s"),
            ),
            (
                "[unix_http_server:x]\nfile=run/a.sock\n",
                "unix:///srv/run/a.sock",
                None,
            ),
            (
                "[inet_http_server]\nport=*:9001\n",
                "http://127.0.0.1:9001",
                None,
            ),
            (
                "[inet_http_server]\nport=9001\n",
                "http://127.0.0.1:9001",
                None,
            ),
            (
                "[inet_http_server]\nport=10.0.0.1:9001\nusername=u\npassword=p\n",
                "http://10.0.0.1:9001",
                login("u", "p"),
            ),
            (
                "[unix_http_server]\nfile=/a\nusername=u\npassword={SHA}82ab\n[supervisorctl]\nusername=u\npassword=clear\n",
                "unix:///a",
                login("u", "clear"),
            ),
            (
                "[unix_http_server]\nfile=/a\n  username=continued\nfile=/b\n",
                "unix:///b",
                None,
            ),
        ] {
            assert_eq!(
                found(text).unwrap(),
                (address.to_owned(), expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        for text in [
            "",
            "[supervisord]\nfile=/a\n",
            "[unix_http_server]\nfile=%(ENV_X)s/a\n",
            "[unix_http_server]\nfile=/a\nusername=u\npassword=%(ENV_SECRET)s\n",
            "[unix_http_server]\nfile=/a\nusername=u\npassword={SHA}82ab\n",
        ] {
            let fault = found(text).unwrap_err();
            assert!(
                !fault.contains("82ab") && !fault.contains("SECRET"),
                "{fault}"
            );
        }
    }

    #[test]
    fn the_config_of_the_command_line_wins_over_the_usual_places() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let put = |path: &str, socket: &str| {
            let text = format!("[unix_http_server]\nfile={socket}\n");
            root.replace(path, text.as_bytes(), 0o600).unwrap();
        };
        std::fs::create_dir_all(root.path("/proc/7")).unwrap();
        std::os::unix::fs::symlink("/srv", root.path("/proc/7/cwd")).unwrap();
        put("/etc/supervisor/supervisord.conf", "/usual");
        put("/opt/etc/supervisord.conf", "/prefix");
        put("/srv/own.conf", "/own");
        let address = |program: &str, options: &str| {
            let options: Vec<String> = options.split(' ').map(str::to_owned).collect();
            let server = server(&root, 7, &[program.to_owned()], &options);
            server
                .map(|server| server.address)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            address("/usr/bin/supervisord", "-n").unwrap(),
            "unix:///usual"
        );
        assert_eq!(
            address("/opt/bin/supervisord", "-n").unwrap(),
            "unix:///prefix"
        );
        for options in [
            "-n -c own.conf",
            "-cown.conf",
            "--configuration=own.conf",
            "--conf /srv/own.conf",
        ] {
            assert_eq!(
                address("/opt/bin/supervisord", options).unwrap(),
                "unix:///own",
                "{options}"
            );
        }
        let error = address("/usr/bin/supervisord", "-c /nowhere").unwrap_err();
        assert!(error.contains("/nowhere"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_fault(text: String) {
            let _ = found(&text);
            let _ = found(&format!("[unix_http_server]\nfile={text}\npassword={text}"));
        }
    }
}
