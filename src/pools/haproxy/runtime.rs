//! What is asked over HAProxy's runtime socket, and what of its answers matters.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use anyhow::anyhow;

use super::super::mark::one_line;
use super::settings::Leave;
use crate::pools::{Context, PoolError, PoolErrorKind};
use crate::world::dial::Address;

/// The most that is read of one answer, in bytes: a line a server of one backend.
const MOST: usize = 8 << 20;

/// Asks for the servers of all backends.
const ALL: &str = "show servers state";

/// Forced into maintenance: `set server … state maint`, `disable server`, `disabled` in the config, an agent's "maint".
const FMAINT: u32 = 0x01;
/// Forced to drain: `set server … state drain`, an agent's "drain".
const FDRAIN: u32 = 0x08;
/// All bits that keep a server in maintenance: forced, inherited, from the config, name not resolved, name changed.
const MAINT: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;

/// The administrative state of a server, the bits of `srv_admin_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admin(pub(super) u32);

impl Admin {
    /// The state that somebody has forced, and that `set server … state ready` would lift.
    pub(super) fn forced(self) -> Option<Leave> {
        if self.0 & FMAINT != 0 {
            Some(Leave::Maint)
        } else if self.0 & FDRAIN != 0 {
            Some(Leave::Drain)
        } else {
            None
        }
    }
}

/// One server as HAProxy sees it now.
pub(super) struct Server {
    pub(super) admin: Admin,
    /// Whether its checks and its agent let it run. Says nothing in maintenance, when they rest.
    pub(super) up: bool,
    /// As the statistics show it: `UP`, `UP 1/3`, `no check`, `DOWN`, `DRAIN`, `MAINT (via …)`, `NOLB`.
    pub(super) status: String,
    /// As the statistics show it; an agent or an operator may have set it to 0.
    weight: String,
    /// What the last check and the agent said.
    pub(super) said: String,
}

impl Server {
    /// Whether it is given new sessions. A status that we don't know counts as such.
    pub(super) fn is_sent_to(&self) -> bool {
        let rests = ["DRAIN", "MAINT", "DOWN", "NOLB"];
        self.weight != "0" && !rests.iter().any(|status| self.status.starts_with(status))
    }

    pub(super) fn is_in_maintenance(&self) -> bool {
        self.admin.0 & MAINT != 0
    }

    /// Whether somebody forced it out, or another server or the config did.
    pub(super) fn is_taken_out(&self) -> bool {
        self.is_in_maintenance() || self.admin.forced().is_some()
    }
}

/// One process of HAProxy, for the calls of one operation.
pub(super) struct Runtime<'a> {
    pub(super) address: &'a Address,
    pub(super) cx: &'a Context,
}

impl Runtime<'_> {
    /// All servers of `backend`, by name.
    pub(super) fn servers(&self, backend: &str) -> Result<BTreeMap<String, Server>, PoolError> {
        let question = format!("show servers state {backend}");
        let answer = self.ask(&question)?;
        let bad = |what: &str| self.error(PoolErrorKind::BadAnswer, &question, what);
        let table = answer
            .strip_prefix("1\n")
            .ok_or_else(|| bad("not the table of servers in its version 1"))?;
        let states = Table::read(table, |row| row.split(' ').map(str::to_owned).collect());
        let id = states.rows().next().and_then(|row| row.get("be_id"));
        let Some(id) = id.filter(|id| id.parse::<u32>().is_ok()) else {
            return Err(bad("no server in it"));
        };
        let question = format!("show stat {id} 4 -1");
        let answer = self.ask(&question)?;
        let statistics = Table::read(&answer, cells);
        let mut servers = BTreeMap::new();
        for row in states.rows() {
            let number = |name| row.get(name).and_then(|cell| cell.parse().ok());
            let (Some(name), Some(admin), Some(operational)) = (
                row.get("srv_name"),
                number("srv_admin_state"),
                number("srv_op_state"),
            ) else {
                return Err(bad("columns are missing in it"));
            };
            let seen = statistics
                .rows()
                .find(|row| row.get("pxname") == Some(backend) && row.get("svname") == Some(name));
            let Some((status, weight, row)) =
                seen.and_then(|row| Some((row.get("status")?, row.get("weight")?, row)))
            else {
                let what = format!("nothing of the server {}", one_line(name));
                return Err(self.error(PoolErrorKind::BadAnswer, &question, &what));
            };
            let said: Vec<&str> = ["check_status", "last_chk", "agent_status", "last_agt"]
                .into_iter()
                .filter_map(|column| row.get(column))
                .filter(|cell| !cell.is_empty())
                .collect();
            let server = Server {
                admin: Admin(admin),
                up: operational != 0,
                status: one_line(status),
                weight: weight.to_owned(),
                said: one_line(&said.join(" ")),
            };
            servers.insert(name.to_owned(), server);
        }
        Ok(servers)
    }

    /// The servers of all backends, each with its address.
    pub(super) fn addresses(&self) -> Result<BTreeMap<String, Vec<(String, String)>>, PoolError> {
        let answer = self.ask(ALL)?;
        let bad = |what: &str| self.error(PoolErrorKind::BadAnswer, ALL, what);
        let table = answer
            .strip_prefix("1\n")
            .ok_or_else(|| bad("not the table of servers in its version 1"))?;
        let states = Table::read(table, |row| row.split(' ').map(str::to_owned).collect());
        let mut backends: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for row in states.rows() {
            let (Some(backend), Some(name), Some(address)) =
                (row.get("be_name"), row.get("srv_name"), row.get("srv_addr"))
            else {
                return Err(bad("columns are missing in it"));
            };
            let server = (name.to_owned(), address.to_owned());
            backends.entry(backend.to_owned()).or_default().push(server);
        }
        Ok(backends)
    }

    /// Forces a state on a server, or lifts what is forced. `server` is `backend/name`.
    pub(super) fn set(&self, server: &str, state: Option<Leave>) -> Result<(), PoolError> {
        let state = match state {
            Some(Leave::Drain) => "drain",
            Some(Leave::Maint) => "maint",
            None => "ready",
        };
        let question = format!("set server {server} state {state}");
        let answer = self.ask(&question)?;
        if answer.trim().is_empty() {
            return Ok(());
        }
        Err(self.error(PoolErrorKind::BadAnswer, &question, &answer))
    }

    /// What this socket's line in the config allows: `user`, `operator` or `admin`.
    pub(super) fn level(&self) -> Result<String, PoolError> {
        Ok(self.ask("show cli level")?.trim().to_owned())
    }

    fn ask(&self, question: &str) -> Result<String, PoolError> {
        let line = format!("{question}\n");
        let answer = self
            .address
            .ask(&self.cx.root, line.as_bytes(), MOST, self.cx.deadline)
            .map_err(|error| {
                let kind = match error.kind() {
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => PoolErrorKind::TimedOut,
                    ErrorKind::PermissionDenied => PoolErrorKind::Refused,
                    ErrorKind::InvalidData => PoolErrorKind::BadAnswer,
                    _ => PoolErrorKind::Unreachable,
                };
                PoolError::new(kind, anyhow!("{}: {error}", self.address))
            })?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let first = answer.trim_start();
        if first.is_empty() && question.starts_with("show ") {
            let what = "closed without an answer";
            return Err(self.error(PoolErrorKind::Unreachable, question, what));
        }
        if first.starts_with("Permission denied") {
            let what = "permission denied; the line of this socket in HAProxy's config needs `level admin`";
            return Err(self.error(PoolErrorKind::Refused, question, what));
        }
        let unknown = ["No such backend", "No such server", "Can't find backend"];
        if unknown.iter().any(|text| first.starts_with(text)) {
            return Err(self.error(PoolErrorKind::NotMember, question, first));
        }
        Ok(answer)
    }

    fn error(&self, kind: PoolErrorKind, question: &str, said: &str) -> PoolError {
        let said = one_line(said);
        PoolError::new(kind, anyhow!("{}: {question}: {said}", self.address))
    }
}

/// Rows with named columns, below a line that begins with `# `.
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(text: &str, cells: impl Fn(&str) -> Vec<String>) -> Self {
        let mut lines = text.lines();
        let head = lines.next().and_then(|line| line.strip_prefix("# "));
        Self {
            columns: head.map(&cells).unwrap_or_default(),
            rows: lines.filter(|line| !line.is_empty()).map(&cells).collect(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row {
            columns: &self.columns,
            cells,
        })
    }
}

struct Row<'t> {
    columns: &'t [String],
    cells: &'t [String],
}

impl<'t> Row<'t> {
    fn get(&self, column: &str) -> Option<&'t str> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.cells.get(at).map(String::as_str)
    }
}

/// The cells of one line of CSV; what a check said is quoted where it holds a comma or a quote.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(next) = characters.next() {
        match next {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => {}
            '"' => {
                quoted = !quoted;
                continue;
            }
            ',' if !quoted => {
                cells.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(cell) = cells.last_mut() {
            cell.push(next);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_be_quoted() {
        assert_eq!(
            cells(r#"a,,"b,""c""",d"#),
            ["a", "", r#"b,"c""#, "d"].map(str::to_owned)
        );
    }

    #[test]
    fn only_known_words_say_that_nothing_is_sent() {
        let server = |status: &str, weight: &str| Server {
            admin: Admin(0),
            up: true,
            status: status.to_owned(),
            weight: weight.to_owned(),
            said: String::new(),
        };
        for status in ["UP", "UP 1/3", "no check", "", "SOMETHING NEW"] {
            assert!(server(status, "1").is_sent_to(), "{status}");
            assert!(!server(status, "0").is_sent_to(), "{status}");
        }
        for status in [
            "DOWN",
            "DOWN (agent)",
            "DRAIN (agent)",
            "MAINT (via a/b)",
            "NOLB 1/2",
        ] {
            assert!(!server(status, "1").is_sent_to(), "{status}");
        }
    }
}
