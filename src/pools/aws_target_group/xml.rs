//! The XML of AWS's query APIs, flattened: lists of rows, and values by name. Bytes from outside, read without recursion.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::Reader;
use quick_xml::events::Event;

/// The deepest nesting of tags; answers have eight.
const DEEPEST: usize = 32;

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Each list's rows, by the list's name.
    rows: Vec<(String, Row)>,
    /// The texts outside of all lists, by their tags' names.
    values: BTreeMap<String, String>,
    names: BTreeSet<String>,
}

/// One `member` of a list: its texts, by the path to them.
#[derive(Debug, Default)]
pub(super) struct Row(BTreeMap<String, String>);

impl Row {
    pub(super) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

impl Answer {
    /// The rows of the outermost list `name`.
    pub(super) fn rows(&self, name: &str) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(move |(list, _)| list == name)
            .map(|(_, row)| row)
    }

    /// The text of the tag `name`, outside of all lists.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether there is a tag `name`: an empty list is one.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Reads an answer; `None` for what is none.
pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
    let mut reader = Reader::from_str(std::str::from_utf8(bytes).ok()?);
    let mut answer = Answer::default();
    let mut open: Vec<String> = Vec::new();
    // The depth of the `member` that texts belong to.
    let mut row = None;
    let mut text = String::new();
    let mut closed_any = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                let name = tag.local_name().into_inner().to_owned();
                if row.is_none() && name == "member" {
                    let list = open.last()?.clone();
                    answer.rows.push((list, Row::default()));
                    row = Some(open.len());
                }
                answer.names.insert(name.clone());
                open.push(name);
                text.clear();
                if open.len() > DEEPEST {
                    return None;
                }
            }
            Event::Empty(tag) => {
                let name = tag.local_name().into_inner();
                answer.names.insert(name.to_owned());
            }
            Event::Text(part) => text.push_str(&part),
            Event::GeneralRef(name) => match name.resolve_char_ref().ok()? {
                Some(character) => text.push(character),
                None => text.push_str(quick_xml::escape::resolve_predefined_entity(&name)?),
            },
            Event::End(_) => {
                let name = open.pop()?;
                closed_any = true;
                let value = std::mem::take(&mut text);
                let value = value.trim();
                match row {
                    Some(depth) if depth == open.len() => row = None,
                    Some(depth) if !value.is_empty() => {
                        let mut path = open.get(depth + 1..)?.join("/");
                        if !path.is_empty() {
                            path.push('/');
                        }
                        let (_, row) = answer.rows.last_mut()?;
                        row.0.insert(path + &name, value.to_owned());
                    }
                    None if !value.is_empty() => {
                        answer.values.insert(name, value.to_owned());
                    }
                    _ => {}
                }
            }
            Event::Eof => return (open.is_empty() && closed_any).then_some(answer),
            // No answer has a document type; one could name entities without end.
            Event::DocType(_) => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_become_rows_and_the_rest_values() {
        let answer = read(
            br#"<?xml version="1.0"?><R xmlns="x"><A><L><member><Id>a&amp;b&#33;</Id><H><S>up</S><M><member><Id>in</Id></member></M></H></member>
            <member><Id>c</Id></member></L><E/><NextMarker> n </NextMarker></A></R>"#,
        )
        .unwrap();
        let ids: Vec<_> = answer.rows("L").map(|row| row.get("Id")).collect();
        assert_eq!(ids, [Some("a&b!"), Some("c")]);
        assert_eq!(answer.rows("L").next().unwrap().get("H/S"), Some("up"));
        assert_eq!(answer.value("NextMarker"), Some("n"));
        assert!(answer.has("E") && !answer.has("F"));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let deep = "<a>".repeat(99);
        for text in [
            "",
            "text",
            "<a>",
            "</a>",
            "<a></b>",
            "<a>&other;</a>",
            &deep,
            "<!DOCTYPE a><a></a>",
        ] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_crashes_it(text in "(<[a-c/]{1,2}>|member|<member>|</member>|&[a-z]*;|[ -~]){0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(text.as_bytes());
            let _ = read(&bytes);
        }
    }
}
