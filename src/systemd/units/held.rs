//! The drop-ins that name what must outlive the drain on this host: written, and read back, for they are the memory of earlier installs.

use super::Unit;

/// A unit that outlives the drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub unit: String,
    /// Why, one line of printable ASCII.
    pub why: String,
}

impl Held {
    /// What can't stand in a comment of a unit file is left out of `why`: it may hold what programs call themselves.
    #[must_use]
    pub fn new(unit: String, why: &str) -> Self {
        let plain = |c: char| {
            if c == ' ' || c.is_ascii_graphic() && c != '\\' {
                c
            } else {
                '?'
            }
        };
        Self {
            unit,
            why: why.chars().map(plain).collect(),
        }
    }
}

/// Why a unit is named that the administrator asked for.
pub const KEPT: &str = "asked for with --keep";

/// The drop-in for what this host has besides: what else must outlive the drain, each with its reason. `None` when there is nothing of the
/// kind.
#[must_use]
pub fn order(held: &[Held]) -> Option<String> {
    let mut unit = Unit::default();
    unit.section("Unit");
    for Held { unit: name, why } in held {
        unit.set(why, "After", name);
    }
    (!held.is_empty()).then_some(unit.text)
}

/// What an earlier [`order`] named.
#[must_use]
pub fn entries(order: &str) -> Vec<Held> {
    let mut why = "";
    let mut held = Vec::new();
    for line in order.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            why = comment;
        } else if let Some(names) = line.strip_prefix("After=") {
            let names = names.split_whitespace();
            held.extend(names.map(|unit| Held::new(unit.to_owned(), why)));
        }
    }
    held
}

/// The folder of our drop-ins.
#[must_use]
pub fn drop_ins(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}.d")
}

/// The drop-in that [`order`] makes for a unit of ours.
#[must_use]
pub fn order_path(unit: &str) -> String {
    format!("{}/10-order.conf", drop_ins(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_is_only_there_for_something_and_is_read_back() {
        assert_eq!(order(&[]), None);
        let held = vec![
            Held::new("a.service".to_owned(), KEPT),
            Held::new("b.service".to_owned(), "b\n[Service]\nExecStop=/evil\\"),
        ];
        let text = order(&held).unwrap();
        assert_eq!(entries(&text), held);
        assert_eq!(text.lines().count(), 5, "{text}");
        // As it once was written.
        let old = "[Unit]\n# asked for with --keep\nAfter=a.service b.service\n";
        assert_eq!(entries(old).len(), 2);
    }
}
