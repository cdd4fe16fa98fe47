//! nginx on this host: the connections in which it reads a request or works on it (`stub_status`, ngx_http_stub_status_module).

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page::Page;
use super::{Kind, Probe};
use crate::config::Section;
use crate::world::{Deadline, Root};

/// nginx's line in the table of probes.
pub(super) const KIND: Kind = Kind {
    name: "nginx",
    about: "the connections that nginx works on, from its stub_status page",
    settings,
    build,
};

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1/nginx_status".to_owned(),
        }
    }
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Page::of_url(&settings.url) {
        section.fault("url", error);
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> anyhow::Result<Box<dyn Probe>> {
    let settings = Settings::deserialize(settings)?;
    Ok(Box::new(Nginx(Page::of_url(&settings.url)?)))
}

struct Nginx(Page);

impl Probe for Nginx {
    fn count(&self, _: &Root, deadline: Deadline) -> anyhow::Result<u64> {
        self.0.count(deadline, working)
    }
}

/// `Reading: 1 Writing: 2 Waiting: 3`: what is read or written, but for the question itself, which is being answered.
fn working(text: &str) -> anyhow::Result<u64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let after = |word: &str| -> anyhow::Result<u64> {
        let at = words.iter().position(|one| *one == word);
        let number = at.and_then(|at| words.get(at + 1));
        let number = number.with_context(|| format!("no {word}: not the page of stub_status"))?;
        number
            .parse()
            .with_context(|| format!("{word} {number:?} is no number"))
    };
    let (reading, writing) = (after("Reading:")?, after("Writing:")?);
    ensure!(
        writing > 0,
        "Writing: 0, though this question is being answered"
    );
    Ok(reading.saturating_add(writing - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_written_counts_but_for_the_question() {
        let page = |numbers: &str| {
            format!(
                "Active connections: 9 \nserver accepts handled requests\n 16 16 31 \n{numbers} \n"
            )
        };
        assert_eq!(
            working(&page("Reading: 0 Writing: 1 Waiting: 8")).unwrap(),
            0
        );
        assert_eq!(
            working(&page("Reading: 2 Writing: 4 Waiting: 8")).unwrap(),
            5
        );
        working(&page("Reading: 0 Writing: 0 Waiting: 8")).unwrap_err();
        working(&page("Reading: 0 Writing: x")).unwrap_err();
        working("<html>it works</html>").unwrap_err();
    }
}
