//! What a fault says, and what it must not.

use toml::de::DeValue;

/// "; did you mean `address`?" where one of `known` is near to `name`, else the list of them.
pub(super) fn suggestion(name: &str, known: &[&str], list: &str) -> String {
    let near = known
        .iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(name, candidate),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match near {
        Some((_, candidate)) => format!("; did you mean `{candidate}`?"),
        None => {
            let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
            format!("; {list} {}", known.join(", "))
        }
    }
}

/// serde's messages as an operator reads them, without the value: it stands at the line named, and could be a secret.
pub(super) fn plain(message: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("{key} is missing");
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) = message
            .strip_prefix(prefix)
            .and_then(|rest| rest.rsplit_once(", expected "))
        {
            let found = found.split(['"', '`']).next().unwrap_or_default().trim();
            return match found {
                "string" | "boolean" | "sequence" | "map" if prefix == "invalid type: " => {
                    format!("must be {}, not a {}", kind(expected), kind(found))
                }
                "integer" | "floating point" if prefix == "invalid type: " => {
                    format!("must be {}, not a number", kind(expected))
                }
                _ => format!("must be {}", kind(expected)),
            };
        }
    }
    message.replacen("unknown variant", "unknown value", 1)
}

/// TOML's words for serde's.
fn kind(word: &str) -> &str {
    match word {
        "sequence" => "list",
        "a sequence" => "a list",
        "map" => "table",
        "a map" => "a table",
        "path string" => "a path",
        "bool" => "true or false",
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        word if word.starts_with("struct ") => "a table",
        word => word,
    }
}

/// Whether the value of `key` must not be shown, as far as its name tells.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "password", "secret"]
        .iter()
        .any(|word| key.contains(word))
}

/// `what` without any secret that is in the `value` of `key`: all of it where the name of `key` says so, else what stands under names
/// within that do. This holds for `token_file` too: now and then the token itself is put there.
pub(super) fn hidden(what: &str, key: &str, value: &DeValue<'_>) -> String {
    let mut secrets = Vec::new();
    collect_secrets(is_secret(key), value, &mut secrets);
    // Long ones first: one could be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut what = what.to_owned();
    for secret in secrets {
        if secret.len() < 4 && what.contains(&secret) {
            // The gaps in the sentence would tell what is missing.
            return "its value can't be used (it is not shown here)".to_owned();
        }
        what = what.replace(&secret, "…");
    }
    what
}

fn collect_secrets(secret: bool, value: &DeValue<'_>, found: &mut Vec<String>) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                collect_secrets(secret || is_secret(key.get_ref()), value.get_ref(), found);
            }
        }
        DeValue::Array(items) => {
            for item in items {
                collect_secrets(secret, item.get_ref(), found);
            }
        }
        DeValue::String(text) if secret && !text.is_empty() => {
            found.push(text.to_string());
            found.push(text.escape_debug().to_string());
        }
        DeValue::Integer(number) if secret => found.push(number.as_str().to_owned()),
        DeValue::Float(number) if secret => found.push(number.as_str().to_owned()),
        _ => {}
    }
}

/// `text` on one line: what stands in a file must not move the cursor of whoever reads the fault.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => c.escape_debug().to_string(),
            c => c.to_string(),
        })
        .collect()
}
