//! Durations with units, for `#[serde(with = "crate::config::duration")]`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// The longest that makes sense in a drain; more is a slip of the pen.
const MOST: Duration = Duration::from_hours(24);

/// The duration that `text` says: "5m", "1m 30s", "500ms".
///
/// # Errors
/// What is wrong with it and how it is written, as a fragment, when it has no unit, is negative or longer than a day.
pub fn parse(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bare(text));
    }
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("`{}` is not a duration; {HOW}", text.escape_debug()))?;
    match Duration::try_from(signed) {
        Err(_) => Err(format!("`{}` is negative", text.escape_debug())),
        Ok(long) if long > MOST => Err(format!("`{}` is longer than a day", text.escape_debug())),
        Ok(duration) => Ok(duration),
    }
}

const HOW: &str = "write it like \"5m\", \"1m 30s\" or \"500ms\"";

fn bare(number: &str) -> String {
    format!("`{number}` has no unit; {HOW}")
}

/// Reads a duration with units.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(Text)
}

/// Writes it so that [`deserialize`] reads the same back.
///
/// # Errors
/// What the format says.
pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&Friendly(*duration))
}

/// A duration as people write it.
#[derive(Clone, Copy, Debug)]
pub struct Friendly(pub Duration);

impl fmt::Display for Friendly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(signed) => write!(f, "{signed:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration like \"5m\", \"1m 30s\" or \"500ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        Err(E::custom(bare(&number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
        Err(E::custom(bare(&number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Duration, E> {
        Err(E::custom(bare(&number.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_and_sense() {
        for (text, expected) in [
            ("5m", Ok(Duration::from_secs(300))),
            ("1m 30s", Ok(Duration::from_secs(90))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("0s", Ok(Duration::ZERO)),
            ("24h", Ok(MOST)),
            ("5", Err("`5` has no unit")),
            ("", Err("`` is not a duration")),
            ("soon", Err("`soon` is not a duration")),
            ("5 parsecs", Err("`5 parsecs` is not a duration")),
            ("-5s", Err("`-5s` is negative")),
            ("25h", Err("`25h` is longer than a day")),
            ("99999999999999h", Err("")),
        ] {
            match (parse(text), expected) {
                (Ok(read), Ok(wanted)) => assert_eq!(read, wanted, "{text}"),
                (Err(said), Err(wanted)) => assert!(said.starts_with(wanted), "{text}: {said}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1_000, 90_061_001 / 2, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&Friendly(duration).to_string()), Ok(duration));
        }
    }
}
