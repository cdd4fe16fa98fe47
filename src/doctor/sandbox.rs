//! Looks from inside the hook's sandbox: a short-lived unit with the properties that systemd has loaded for the hook, in which this program says
//! what it sees.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::sight::Sight;
use crate::receipts::RUN_DIR;
use crate::systemd::{HOOK, TRIAL, systemctl, units};
use crate::world::{Deadline, Root, exec};

/// It answers in a tenth of a second; pools that hang take five, and a busy host longer for everything.
const LIMIT: Duration = Duration::from_secs(20);

/// What decides about what a service may see and do (systemd.exec(5), systemd.resource-control(5)), as `systemctl show` and `systemd-run` name it
/// alike.
const SANDBOX: [&str; 52] = [
    "User",
    "Group",
    "DynamicUser",
    "SupplementaryGroups",
    "UMask",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "NoNewPrivileges",
    "ProtectSystem",
    "ProtectHome",
    "ProtectProc",
    "ProcSubset",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateUsers",
    "PrivateMounts",
    "PrivateIPC",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectControlGroups",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "KeyringMode",
    "SystemCallArchitectures",
    "SystemCallFilter",
    "SystemCallErrorNumber",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "TemporaryFileSystem",
    "BindPaths",
    "BindReadOnlyPaths",
    "RootDirectory",
    "NetworkNamespacePath",
    "IPAddressAllow",
    "IPAddressDeny",
    "AppArmorProfile",
    "SELinuxContext",
    "PassEnvironment",
    "LimitNOFILE",
    "MemoryMax",
    "TasksMax",
];

/// Folders that systemd makes for a service, and where: as paths that may be written they change nothing on the host.
const FOLDERS: [(&str, &str); 5] = [
    ("StateDirectory", "/var/lib"),
    ("RuntimeDirectory", "/run"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
];

/// What the hook runs, and what its environment is.
const REST: [&str; 3] = ["ExecStop", "Environment", "EnvironmentFiles"];

/// What the hook would see, and the properties of its sandbox that are not ours; or why that could not be tried.
pub(super) struct Tried {
    pub(super) sight: Result<Sight, String>,
    pub(super) hardened: Vec<String>,
    /// The hook's program, and why it can't be run.
    pub(super) program: Option<(String, String)>,
}

/// Tries it out; `None` where there is no hook that could be run.
pub(super) fn try_out(root: &Root) -> Option<Tried> {
    let deadline = Deadline::after(LIMIT);
    let folders = FOLDERS.map(|(property, _)| property);
    let names = [SANDBOX.as_slice(), &folders, &REST].concat();
    let shown = systemctl::show(&[HOOK.to_owned()], &names, deadline);
    let hook = match shown.map(|mut shown| shown.pop().unwrap_or_default()) {
        Ok(hook) => hook,
        Err(error) => {
            return Some(Tried {
                sight: Err(error.to_string()),
                hardened: Vec::new(),
                program: None,
            });
        }
    };
    let program = program(hook.get("ExecStop")?)?;
    if let Err(error) = access(root.path(program), Access::EXEC_OK) {
        let why = std::io::Error::from(error).to_string();
        return Some(Tried {
            sight: Err(format!("{program}: {why}")),
            hardened: hardened(&hook),
            program: Some((program.to_owned(), why)),
        });
    }
    let given = environment(hook.get("Environment").map_or("", String::as_str));
    let file = (!given.is_empty()).then(|| format!("{RUN_DIR}/doctor-{}.env", std::process::id()));
    // On a command line everybody could read it.
    let written = file
        .as_ref()
        .map_or(Ok(()), |file| root.replace(file, given.as_bytes(), 0o600));
    let sight = written
        .map_err(|error| Failed::Trial(error.to_string()))
        .and_then(|()| run(&arguments(&hook, program, file.as_deref()), deadline));
    if let Some(file) = &file {
        let _ = root.remove(file);
    }
    let (sight, unstarted) = match sight {
        Ok(sight) => (Ok(sight), None),
        Err(Failed::Trial(why)) => (Err(why), None),
        Err(Failed::Start(why)) => (Err(why.clone()), Some((program.to_owned(), why))),
    };
    Some(Tried {
        sight,
        hardened: hardened(&hook),
        program: unstarted,
    })
}

/// What went wrong.
enum Failed {
    /// The trial itself: nothing is known.
    Trial(String),
    /// systemd could not start the program with these properties, and would not at a shutdown.
    Start(String),
}

/// The exit codes with which systemd says so (systemd.exec(5), "Process Exit Codes").
const NOT_STARTED: std::ops::RangeInclusive<i32> = 200..=245;

fn run(arguments: &[String], deadline: Deadline) -> Result<Sight, Failed> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output =
        exec::run(&arguments, None, deadline).map_err(|error| Failed::Trial(error.to_string()))?;
    let says = String::from_utf8_lossy(&output.stderr);
    if let Some(code) = output.status.code()
        && NOT_STARTED.contains(&code)
    {
        return Err(Failed::Start(format!(
            "systemd can't start it as the unit asks: status {code} in the table of `man systemd.exec`"
        )));
    }
    if !output.status.success() {
        let last = says.lines().rfind(|line| !line.trim().is_empty());
        let why = last.map_or_else(|| output.status.to_string(), str::to_owned);
        return Err(Failed::Trial(why));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failed::Trial(format!("what it says: {error}")))
}

/// The path of a command as `systemctl show` writes it.
fn program(command: &str) -> Option<&str> {
    let path = command.strip_prefix("{ path=")?.split(" ;").next()?;
    path.starts_with('/').then_some(path)
}

fn arguments(
    hook: &BTreeMap<String, String>,
    program: &str,
    environment: Option<&str>,
) -> Vec<String> {
    let fixed = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"];
    let mut words: Vec<String> = fixed.map(str::to_owned).into();
    words.push(format!("--unit={TRIAL}{}", std::process::id()));
    let mut set = |key: &str, value: &str| words.push(format!("--property={key}={value}"));
    set("Type", "exec");
    set("RuntimeMaxSec", &LIMIT.as_secs().to_string());
    for key in SANDBOX {
        let value = hook.get(key).map_or("", String::as_str);
        // No capability at all is shown as nothing, all of them one by one.
        if !unset(key, value) || key == "CapabilityBoundingSet" {
            set(key, value);
        }
    }
    for (key, place) in FOLDERS {
        for name in hook
            .get(key)
            .iter()
            .flat_map(|names| names.split_whitespace())
        {
            // From systemd 254 on a colon may follow with a second name.
            let name = name.split(':').next().unwrap_or(name);
            set("ReadWritePaths", &format!("-{place}/{name}"));
        }
    }
    for line in hook
        .get("EnvironmentFiles")
        .iter()
        .flat_map(|all| all.lines())
    {
        if let Some((path, ignore)) = line.split_once(" (ignore_errors=") {
            let dash = if ignore == "yes)" { "-" } else { "" };
            set("EnvironmentFile", &format!("{dash}{path}"));
        }
    }
    if let Some(file) = environment {
        set("EnvironmentFile", file);
    }
    words.extend(["--", program, "doctor", "--probe"].map(str::to_owned));
    words
}

/// Whether a property is shown and not set.
fn unset(key: &str, value: &str) -> bool {
    // Larger than any error: the process is killed.
    let kills = || {
        value
            .parse::<u32>()
            .is_ok_and(|number| !(1..4096).contains(&number))
    };
    value.is_empty() || value == "[not set]" || key == "SystemCallErrorNumber" && kills()
}

/// `Environment=` as `systemctl show` writes it, one assignment a line as a file for `EnvironmentFile=`.
fn environment(shown: &str) -> String {
    let mut file = String::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut end = |word: &mut String| {
        if let Some((name, value)) = word.split_once('=') {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            file.push_str(&format!("{name}=\"{value}\"\n"));
        }
        word.clear();
    };
    let mut characters = shown.chars();
    while let Some(next) = characters.next() {
        match next {
            '"' => quoted = !quoted,
            '\\' => word.extend(characters.next()),
            ' ' if !quoted => end(&mut word),
            _ => word.push(next),
        }
    }
    end(&mut word);
    file
}

/// The properties that are not as our own unit has them, for people; those that only grant more are none.
fn hardened(hook: &BTreeMap<String, String>) -> Vec<String> {
    let own = units::hook(&units::Layout::default());
    let value = |key: &str| {
        let mut lines = own.lines().rev();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let judged = SANDBOX.iter().filter(|key| {
        // Long lists that systemd writes out in words of its own.
        !matches!(
            **key,
            "SystemCallFilter"
                | "CapabilityBoundingSet"
                | "RestrictAddressFamilies"
                | "SystemCallErrorNumber"
                | "UMask"
                | "LimitNOFILE"
                | "MemoryMax"
                | "TasksMax"
        )
    });
    let differs = judged.filter_map(|key| {
        let shown = hook.get(*key)?;
        let plain = matches!(
            shown.as_str(),
            "" | "no" | "[not set]" | "default" | "all" | "inherit" | "/"
        );
        (value(key).map_or(!plain, |own| own != shown)).then(|| format!("{key}={shown}"))
    });
    differs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hooks_properties_become_those_of_the_unit_that_looks() {
        let hook = [
            ("User", ""),
            ("CapabilityBoundingSet", ""),
            ("PrivateNetwork", "yes"),
            ("AppArmorProfile", "[not set]"),
            ("StateDirectory", "drainctl"),
            ("RuntimeDirectory", "drainctl more:less"),
            (
                "EnvironmentFiles",
                "/etc/a (ignore_errors=no)\n/etc/b (ignore_errors=yes)",
            ),
        ];
        let hook = hook.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let words = arguments(&hook.into(), "/usr/bin/drainctl", Some("/run/x.env"));
        let properties: Vec<&str> = words
            .iter()
            .filter_map(|word| word.strip_prefix("--property="))
            .collect();
        assert_eq!(
            properties,
            [
                "Type=exec",
                "RuntimeMaxSec=20",
                "CapabilityBoundingSet=",
                "PrivateNetwork=yes",
                "ReadWritePaths=-/var/lib/drainctl",
                "ReadWritePaths=-/run/drainctl",
                "ReadWritePaths=-/run/more",
                "EnvironmentFile=/etc/a",
                "EnvironmentFile=-/etc/b",
                "EnvironmentFile=/run/x.env",
            ]
        );
        assert_eq!(
            words[words.len() - 3..],
            ["/usr/bin/drainctl", "doctor", "--probe"]
        );
    }

    #[test]
    fn the_environment_is_kept_word_by_word() {
        let shown = r#"A=b "TOKEN=two words" "QUOTED=a\"b""#;
        assert_eq!(
            environment(shown),
            "A=\"b\"\nTOKEN=\"two words\"\nQUOTED=\"a\\\"b\"\n"
        );
        assert_eq!(environment(""), "");
    }

    #[test]
    fn the_program_is_that_of_the_hook() {
        let command = "{ path=/usr/bin/drainctl ; argv[]=/usr/bin/drainctl drain ; status=0/0 }";
        assert_eq!(program(command), Some("/usr/bin/drainctl"));
        assert_eq!(program(""), None);
    }
}
