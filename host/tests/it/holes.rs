//! Each layer that is taken away is seen by the attack catalogue, in its own rows and in no other.
//!
//! A row with no fault ended as the catalogue demands, and so as it does with the layer. Each test runs the whole catalogue,
//! which takes a minute: they are behind the feature `holes`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::host;

/// Takes a layer away; the rows of `both` pools and those of the process pool alone must have faults.
fn check(layer: &str, both: &[&str], process: &[&str]) {
    let output = host().args(["demo", "--json", "--without", layer]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{layer}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Rows in brackets look at whole servers: what a hole leaves there depends on when it is looked.
    let red: BTreeSet<_> = rows
        .iter()
        .filter(|row| !row["fault"].is_null())
        .map(|row| (row["pool"].as_str().unwrap(), row["attack"].as_str().unwrap()))
        .filter(|(_, attack)| !attack.starts_with('('))
        .collect();
    let expected: BTreeSet<_> = ["thread", "process"]
        .into_iter()
        .flat_map(|pool| both.iter().map(move |attack| (pool, *attack)))
        .chain(process.iter().map(|attack| ("process", *attack)))
        .collect();
    assert_eq!(red, expected, "{layer}: {rows:#?}");
}

#[test]
fn instances_that_serve_again_are_seen() {
    check("instances", &["leftover", "memory-remnants"], &[]);
}

#[test]
fn workers_without_a_filter_on_system_calls_are_seen() {
    check(
        "seccomp",
        &[
            "native-connect",
            "native-listen",
            "native-send-datagram",
            "native-connect-unix",
            "native-touch-outside",
            "native-execute",
            "native-start-process",
            "native-start-thread",
            "native-signal-server",
            "native-trace-sibling",
            "native-read-other-process",
            "native-system-calls",
        ],
        &["native-send-to-unix"],
    );
}

#[test]
fn a_missing_quota_is_seen() {
    check(
        "quota",
        &[
            "fill",
            "small-appends",
            "unlinked",
            "sparse",
            "files",
            "links",
            "deep",
            "directory-growth",
            "service-fill",
            "service-self-append",
            "service-sparse",
        ],
        &[],
    );
}

#[test]
fn host_calls_without_a_deadline_are_seen() {
    check(
        "deadline",
        &["sleep-year", "poll-never", "service-timer-year", "service-never-timed"],
        &[],
    );
}

#[test]
fn links_that_lead_out_of_the_directory_are_seen() {
    check(
        "paths",
        &[
            "slashes",
            "trailing-slash",
            "symlink-out",
            "symlink-make",
            "symlink-chain",
            "symlink-swap",
            "hard-link-out",
            "rename-out",
            "service-symlink-out",
        ],
        &[],
    );
}
