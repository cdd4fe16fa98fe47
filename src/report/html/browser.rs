//! The page in a real browser, over Chromium's debugging pipe: what overlaps, what is asked for, and how it looks.
//! With `PAGES=DIR` the pictures are kept there.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use super::page;
use crate::report::sample::{largest, sample};

/// Every text that is seen, as `[left, top, right, bottom, text]`; and what sticks out of the page.
const MEASURE: &str = r"(() => {
  const boxes = [], wide = document.documentElement.clientWidth;
  const add = (r, text) => { if (r.width > 0.5 && r.height > 0.5) boxes.push([r.left, r.top, r.right, r.bottom, text]); };
  for (const text of document.querySelectorAll('svg text')) add(text.getBoundingClientRect(), text.textContent);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (!node.data.trim() || node.parentElement.closest('svg, thead')) continue;
    const range = document.createRange(); range.selectNodeContents(node);
    for (const r of range.getClientRects()) add(r, node.data);
  }
  const bad = [];
  boxes.forEach((a, i) => {
    if (a[0] < -0.5 || a[2] > wide + 0.5) bad.push('out of the page: ' + a[4]);
    for (const b of boxes.slice(i + 1)) {
      const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
      if (w > 1 && h > 2) bad.push(a[4] + ' | ' + b[4]);
    }
  });
  if (document.documentElement.scrollWidth > wide) bad.push('the page is wider than its window');
  return JSON.stringify({texts: boxes.length, bad: bad.slice(0, 20), opened: performance.timing.loadEventEnd - performance.timing.navigationStart});
})()";

struct Browser {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    asked: u64,
    session: Option<String>,
    events: VecDeque<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Nothing where there is no Chromium.
    fn start() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let found = Command::new("chromium").arg("--version").output();
        if !found.is_ok_and(|found| found.status.success()) {
            return None;
        }
        // The pipe is file descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1", "sh"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
            ])
            .args([
                "--disable-background-networking",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self {
            ask: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            asked: 0,
            session: None,
            events: VecDeque::new(),
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let session = browser.ask(
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        );
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        browser.ask("Page.enable", json!({}));
        browser.ask("Network.enable", json!({}));
        Some(browser)
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.ask.write_all(message.to_string().as_bytes()).unwrap();
        self.ask.write_all(b"\0").unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut text = Vec::new();
        self.answers.read_until(0, &mut text).unwrap();
        assert!(!text.is_empty(), "the browser is gone");
        serde_json::from_slice(&text[..text.len() - 1]).unwrap()
    }

    /// Opens the page, so many pixels wide; what was asked for meanwhile.
    fn open(&mut self, file: &Path, width: u32, media: &str) -> Vec<String> {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let (media, scheme) = match media {
            "print" => ("print", "light"),
            scheme => ("screen", scheme),
        };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let media = json!({ "media": media, "features": features });
        self.ask("Emulation.setEmulatedMedia", media);
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.ask("Page.navigate", json!({ "url": url }));
        let mut asked = Vec::new();
        loop {
            let event = self.events.pop_front().unwrap_or_else(|| self.next());
            match event["method"].as_str() {
                Some("Network.requestWillBeSent") => {
                    let url = event["params"]["request"]["url"].as_str().unwrap();
                    asked.push(url.to_owned());
                }
                Some("Page.loadEventFired") => return asked,
                _ => {}
            }
        }
    }

    fn measure(&mut self) -> Value {
        let result = self.ask("Runtime.evaluate", json!({ "expression": MEASURE }));
        serde_json::from_str(result["result"]["value"].as_str().unwrap()).unwrap()
    }

    fn keep(&mut self, method: &str, params: Value, name: &str) {
        let Some(dir) = std::env::var_os("PAGES") else {
            return;
        };
        let data = self.ask(method, params)["data"].clone();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data.as_str().unwrap())
            .unwrap();
        std::fs::write(Path::new(&dir).join(name), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_overlaps_and_no_request_leaves_the_page() {
    let Some(mut browser) = Browser::start() else {
        eprintln!("SKIPPED nothing_overlaps_and_no_request_leaves_the_page: needs chromium");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // What is measured would be found.
    let file = dir.path().join("bad.html");
    let over = "<text y=\"20\">one</text><text y=\"24\">two</text>";
    let bad = format!(
        "<svg>{over}</svg><p style=\"width:900px\">{}</p><img src=\"x.png\">",
        "wide ".repeat(200)
    );
    std::fs::write(&file, bad).unwrap();
    let asked = browser.open(&file, 400, "light");
    assert_eq!(asked.len(), 2, "{asked:?}");
    let seen = browser.measure().to_string();
    for fault in [
        "one | two",
        "out of the page: wide",
        "wider than its window",
    ] {
        assert!(seen.contains(fault), "{fault}: {seen}");
    }
    for (name, report) in [("sample", sample()), ("largest", largest())] {
        let file = dir.path().join(format!("{name}.html"));
        std::fs::write(&file, page(&report, false)).unwrap();
        // A4 between its margins has 687 pixels.
        for (width, scheme) in [
            (1280, "light"),
            (1280, "dark"),
            (687, "print"),
            (641, "light"),
            (400, "light"),
            (400, "dark"),
        ] {
            let asked = browser.open(&file, width, scheme);
            let url = format!("file://{}", file.display());
            let others: Vec<_> = asked
                .iter()
                .filter(|asked| **asked != url && !asked.starts_with("data:"))
                .collect();
            assert!(others.is_empty(), "{others:?}");
            assert!(asked.contains(&url), "{asked:?}");
            let seen = browser.measure();
            eprintln!(
                "{name} at {width}, {scheme}: {} texts, opened in {} ms",
                seen["texts"], seen["opened"]
            );
            let picture = json!({ "captureBeyondViewport": true });
            browser.keep(
                "Page.captureScreenshot",
                picture,
                &format!("{name}-{width}-{scheme}.png"),
            );
            assert!(seen["texts"].as_u64().unwrap() > 50, "{seen}");
            assert_eq!(seen["bad"], json!([]), "{name} at {width}: {seen:#}");
        }
        browser.keep(
            "Page.printToPDF",
            json!({ "printBackground": false }),
            &format!("{name}.pdf"),
        );
    }
}
