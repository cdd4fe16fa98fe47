//! What a program's arguments and environment name, of what listens on this host. Pure. Of the text nothing is kept but what it was
//! compared with: it may hold secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::Use;
use super::ends::{Tcp, Unix, is_own, listener};

/// The ports that clients take where a URL names none.
const SCHEMES: [(&str, u16); 9] = [
    ("postgres", 5432),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("redis", 6379),
    ("rediss", 6379),
    ("amqp", 5672),
    ("mongodb", 27017),
    ("memcached", 11211),
    ("http", 80),
];

/// The services that `texts`, of a process of `unit`, name.
pub(super) fn find(
    texts: &[String],
    unit: &str,
    program: &str,
    tcp: &[Tcp],
    unix: &[Unix],
) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut add = |owner: &str, what: String| {
        if owner != unit {
            uses.push(Use {
                by: Some(unit.to_owned()),
                unit: owner.to_owned(),
                why: format!(
                    "{program} of {unit} was started with {what} in its arguments or environment"
                ),
                seen: false,
            });
        }
    };
    for (ip, port) in texts
        .iter()
        .flat_map(|text| endpoints(text))
        .chain(pairs(texts))
    {
        // `localhost` is either.
        let both = ip.is_loopback().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let owner = |ip| is_own(tcp, ip).then(|| listener(tcp, (ip, port).into()))?;
        if let Some(owner) = owner(ip).or_else(|| owner(both?)) {
            add(&owner.unit, SocketAddr::from((ip, port)).to_string());
        }
    }
    for socket in unix.iter().filter(|socket| socket.listens) {
        if let (Some(owner), Some(name)) = (&socket.owner, &socket.name)
            && texts.iter().any(|text| names_path(text, name))
        {
            add(&owner.unit, name.clone());
        }
    }
    uses
}

/// A host as programs are told of it.
fn host(word: &str) -> Option<IpAddr> {
    let bare = word
        .strip_prefix('[')
        .and_then(|word| word.strip_suffix(']'));
    match word {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        _ => bare.unwrap_or(word).parse().ok(),
    }
}

/// Every `host:port` and `scheme://user@host` in a text.
fn endpoints(text: &str) -> Vec<(IpAddr, u16)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ".:[]-".contains(c);
    let mut found = Vec::new();
    let mut from = 0;
    for word in text.split_inclusive(|c| !is_part(c)) {
        let before = text.get(..from).unwrap_or_default();
        from += word.len();
        let word = word.trim_end_matches(|c| !is_part(c));
        let with_port = word
            .rsplit_once(':')
            .and_then(|(name, port)| Some((host(name)?, port.parse().ok()?)));
        let by_scheme = || {
            let name = host(word)?;
            let (start, user) = before.rsplit_once("://")?;
            // Only a user may stand between.
            (user.is_empty() || user.ends_with('@') && !user.contains(['/', ' '])).then_some(())?;
            let is_scheme = |c: char| c.is_ascii_alphanumeric() || c == '+';
            let scheme = start.rsplit(|c| !is_scheme(c)).next()?;
            // `postgresql+psycopg2`
            let scheme = scheme.split('+').next()?;
            let (_, port) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
            Some((name, *port))
        };
        found.extend(with_port.or_else(by_scheme));
    }
    found
}

/// `X_HOST=localhost` beside `X_PORT=5432`.
fn pairs(texts: &[String]) -> Vec<(IpAddr, u16)> {
    let value = |name: &str| {
        let mut lines = texts.iter().filter_map(|text| text.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let pair = |text: &String| {
        let (key, name) = text.split_once('=')?;
        let port = key.contains("HOST").then(|| key.replace("HOST", "PORT"))?;
        Some((host(name)?, value(&port)?.parse().ok()?))
    };
    texts.iter().filter_map(pair).collect()
}

/// Whether a text names the path of a socket, or the folder of PostgreSQL's, whose clients add the file's name themselves.
fn names_path(text: &str, path: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    let text = text.replace("/var/run/", "/run/");
    let whole = |name: &str| {
        let ends = |rest: &str| {
            !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "._-/".contains(c))
        };
        text.match_indices(name).any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default();
            ends(text.get(at + name.len()..).unwrap_or_default())
                && !before.ends_with(|c: char| c.is_ascii_alphanumeric() || "._-/".contains(c))
        })
    };
    // `unix:///run/a.sock` has a slash before it.
    let after_scheme = text.contains(&format!("://{path}"));
    let path = Path::new(path);
    let (Some(whole_path), Some(folder), Some(file)) = (
        path.to_str(),
        path.parent().and_then(Path::to_str),
        path.file_name().and_then(|file| file.to_str()),
    ) else {
        return false;
    };
    after_scheme || whole(whole_path) || file.starts_with(".s.PGSQL.") && whole(folder)
}

#[cfg(test)]
mod tests {
    use super::super::ends::tests::{owner, sockets};
    use super::*;

    fn texts(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn urls_arguments_and_pairs_name_what_listens_here() {
        let tcp = sockets(&[
            "127.0.0.1:5432 * db.service/postgres",
            "0.0.0.0:6379 * redis.service/redis",
            "0.0.0.0:8000 * app.service/web",
        ]);
        for (line, unit) in [
            (
                "DATABASE_URL=postgres://me:s3cret@localhost/shop",
                Some("db.service"),
            ),
            (
                "DATABASE_URL=postgresql+psycopg2://me@127.0.0.1/shop",
                Some("db.service"),
            ),
            ("--cache=localhost:6379", Some("redis.service")),
            ("redis://[::1]:6379/0", Some("redis.service")),
            ("DB=localhost:5433", None),
            ("DB=10.9.9.9:5432", None),
            ("--bind=0.0.0.0:8000", None),
            ("mylocalhost:5432", None),
        ] {
            let found = find(&texts(&[line]), "app.service", "web", &tcp, &[]);
            assert_eq!(found.first().map(|by| by.unit.as_str()), unit, "{line}");
            assert!(
                found
                    .iter()
                    .all(|by| !by.why.contains("s3cret") && !by.seen)
            );
        }
        let pair = texts(&["DB_HOST=localhost", "DB_PORT=5432"]);
        assert_eq!(
            find(&pair, "app.service", "web", &tcp, &[])[0].unit,
            "db.service"
        );
    }

    #[test]
    fn paths_of_sockets_count_whole() {
        let unix = [Unix {
            inode: 1,
            peer: None,
            listens: true,
            name: Some("/run/postgresql/.s.PGSQL.5432".to_owned()),
            owner: owner("db.service/postgres"),
        }];
        for (line, named) in [
            ("PGHOST=/var/run/postgresql", true),
            ("/run/postgresql/.s.PGSQL.5432", true),
            ("unix:///run/postgresql/.s.PGSQL.5432", true),
            ("/run/postgresql/.s.PGSQL.54321", false),
            ("/run/postgresql2", false),
            ("/srv/run/postgresql", false),
        ] {
            let found = find(&texts(&[line]), "app.service", "web", &[], &unix);
            assert_eq!(!found.is_empty(), named, "{line}");
        }
    }
}
