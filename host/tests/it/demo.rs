//! The attack catalogue, on both pools, and what it says of each attack.
//!
//! How long things took is not looked at here, where other tests run at the same time:
//! that is for who runs `host demo` by itself, as `.ci/run` does.

use std::collections::HashMap;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{PATIENCE, finish, host, output};

#[test]
fn every_attack_of_the_catalogue_is_stopped_on_both_pools() {
    let mut demo = host();
    demo.args(["demo", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(demo.spawn().unwrap(), 5 * PATIENCE);
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let faults: Vec<_> = rows.iter().filter(|row| !row["fault"].is_null()).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let late = rows.iter().any(|row| !row["late"].is_null());
    assert_eq!(output.status.success(), !late, "{}", String::from_utf8_lossy(&output.stderr));

    let mut made: HashMap<&str, usize> = HashMap::new();
    // Those in brackets are of whole servers, of which some do not live to have one.
    for row in rows.iter().filter(|row| !row["attack"].as_str().unwrap().starts_with('(')) {
        *made.entry(row["pool"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(made["thread"], made["process"]);
    assert!(made["process"] > 90 && made["load"] >= 10, "{made:?}");
    let open: Vec<_> = rows.iter().filter(|row| row["not_promised"] == true).collect();
    assert!(open.iter().all(|row| row["pool"] == "thread"), "{open:#?}");
    assert_eq!(open.len(), 4, "{open:#?}");
}

#[test]
fn an_attack_that_does_not_exist_is_an_error() {
    let output = output(host().args(["demo", "--only", "nonsense"]));
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line, "error: --only: there is no attack 'nonsense'\n");
}
