//! What the keeper is told, as arguments of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The name by which the binary knows that it is to be the keeper. With a blank in it, it is nobody's file.
pub const NAME: &str = "drainctl run";
/// How the part of a helper is named on its command line.
pub const PART: &str = "--part";

/// How one program is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The signals that drain before they are passed on.
    pub drain_on: Vec<i32>,
    /// The most that a drain may take.
    pub limit: Duration,
    /// Signals go to the program's whole process group.
    pub to_group: bool,
    /// What people call the program.
    pub name: String,
    /// Where its receipts lie; nowhere when there is no place that we may write to.
    pub state: Option<PathBuf>,
    /// What was given on the command line before the program, for those who drain and rejoin.
    pub options: Vec<OsString>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

impl Plan {
    /// As arguments: short ones first, the program last, so that a list of processes can be read.
    #[must_use]
    pub fn to_args(&self) -> Vec<OsString> {
        let signals: Vec<String> = self.drain_on.iter().map(i32::to_string).collect();
        let state = self
            .state
            .as_ref()
            .map(|state| state.clone().into_os_string());
        let mut args: Vec<OsString> = vec![
            self.name.clone().into(),
            signals.join(",").into(),
            self.limit.as_millis().to_string().into(),
            if self.to_group { "group" } else { "process" }.into(),
            state.unwrap_or_default(),
            self.options.len().to_string().into(),
        ];
        args.extend(self.options.iter().cloned());
        args.push("--".into());
        args.extend(self.command.iter().cloned());
        args
    }

    /// The plan of such arguments; none of others.
    #[must_use]
    pub fn from_args(args: &[OsString]) -> Option<Self> {
        let (head, rest) = args.split_at_checked(6)?;
        let text = |n: usize| head.get(n).and_then(|arg| arg.to_str());
        let count: usize = text(5)?.parse().ok()?;
        let (options, rest) = rest.split_at_checked(count)?;
        let (dashes, command) = rest.split_first()?;
        let signals: Result<Vec<i32>, _> = text(1)?.split(',').map(str::parse).collect();
        let to_group = match text(3)? {
            "group" => true,
            "process" => false,
            _ => return None,
        };
        (dashes.as_bytes() == b"--" && !command.is_empty()).then_some(Self {
            drain_on: signals.ok()?,
            limit: Duration::from_millis(text(2)?.parse().ok()?),
            to_group,
            name: text(0)?.to_owned(),
            state: Some(PathBuf::from(&head[4])).filter(|state| !state.as_os_str().is_empty()),
            options: options.to_vec(),
            command: command.to_vec(),
        })
    }

    /// The command line of a helper that does `part` for the program whose process is `pid`.
    #[must_use]
    pub fn helper(&self, binary: &OsStr, part: &str, pid: u32) -> Vec<OsString> {
        let mut argv = vec![binary.to_owned(), "run".into()];
        argv.push(format!("{PART}={part}:{pid}").into());
        argv.extend(self.options.iter().cloned());
        argv.push("--".into());
        argv.extend(self.command.iter().cloned());
        argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            drain_on: vec![15, 3],
            limit: Duration::from_millis(61_500),
            to_group: true,
            name: "app".to_owned(),
            state: Some(PathBuf::from("/var/lib/x y")),
            options: vec!["--name".into(), "--".into()],
            command: vec!["sh".into(), "-c".into(), "".into()],
        }
    }

    #[test]
    fn a_plan_survives_its_arguments() {
        let plain = Plan {
            to_group: false,
            state: None,
            options: vec![],
            ..plan()
        };
        for plan in [plan(), plain] {
            assert_eq!(Plan::from_args(&plan.to_args()), Some(plan));
        }
    }

    #[test]
    fn other_arguments_are_no_plan() {
        let args = plan().to_args();
        for cut in 0..9 {
            assert_eq!(Plan::from_args(&args[..cut]), None, "{cut}");
        }
        let mut other = args;
        other[5] = "18446744073709551615".into();
        assert_eq!(Plan::from_args(&other), None);
    }
}
