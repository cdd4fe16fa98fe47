//! The demo, as a whole: it is the main job on real sockets, without root and with nothing else installed.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_drained_backend_drops_nothing_and_a_killed_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_drainctl"))
        .args(["demo", "--json", "--load", "1s"])
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let acts: Value = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!(
            "{error}: {said} {}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let (drained, killed) = (&acts["drained"], &acts["killed"]);
    assert!(drained["in_flight"].as_u64().unwrap() > 0, "{acts:#}");
    assert_eq!(drained["failed"], 0, "{acts:#}");
    assert_eq!(drained["drain"]["outcome"], "drained", "{acts:#}");
    assert!(
        drained["drain"]["most_in_flight"].as_u64().unwrap() > 0,
        "{acts:#}"
    );
    assert!(killed["failed"].as_u64().unwrap() > 0, "{acts:#}");
    assert_eq!(output.status.code(), Some(0));
    let page = std::path::Path::new(acts["page"].as_str().unwrap());
    let html = std::fs::read_to_string(page).unwrap();
    assert!(
        html.contains("<svg") && html.contains("backend 1"),
        "{html}"
    );
    assert!(page.starts_with(dir.path()), "{page:?}");
}
