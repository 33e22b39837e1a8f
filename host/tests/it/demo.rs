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
    let threads = |what: &str| -> Vec<_> {
        // Whoever cannot make a device cannot attack by one, on either pool.
        let is_it = |row: &&Value| row[what] == true && row["attack"] != "open-device";
        let rows: Vec<_> = rows.iter().filter(is_it).collect();
        assert!(rows.iter().all(|row| row["pool"] == "thread"), "{rows:#?}");
        rows.iter().map(|row| row["attack"].as_str().unwrap()).collect()
    };
    let open = [
        "native-large-file",
        "native-many-descriptors",
        "native-see-descriptors",
        "native-see-memory",
        "native-deny-and-die",
        "native-die",
    ];
    assert_eq!(threads("not_promised"), open);
    let by_processes_only = [
        "native-send-to-unix",
        "native-say-nonsense",
        "native-garble-ring",
        "native-say-too-much",
        "native-answer-for-another",
        "native-say-without-end",
        "native-pass-socket",
        "native-pass-fifo",
        "native-pass-device",
        "native-pass-beyond-end",
        "native-pass-many",
        "native-ring",
    ];
    assert_eq!(threads("not_applicable"), by_processes_only);

    for row in &rows {
        let is_attack = !row["attack"].as_str().unwrap().starts_with('(');
        // What a row says was seen somewhere.
        if is_attack && row["not_applicable"] == false && row["not_promised"] == false {
            assert_ne!(row["stopped_by"], "", "{row:#}");
            let seen = row["observed"].as_str().unwrap();
            let word = match row["stopped_by"].as_str().unwrap() {
                "monitor" if row["got"].as_str().unwrap().starts_with("500") => "log: stopped by ",
                "monitor" | "quota" => "audit: denied: ",
                "kernel" => "audit: failed: ",
                "log" => "lines of output",
                "loading" | "front" => "",
                "nothing to find" => "attacker: nothing: ",
                "landlock" | "seccomp" | "resource limit" => "attacker: blocked: ",
                _ => "log: stopped by ",
            };
            assert!(seen.contains(word) && !seen.is_empty(), "{row:#}");
        }
        // Whose server died may not have had time for one.
        let died = row["got"] == "the server died";
        assert!(row["good_milliseconds"].is_u64() || died, "no good request: {row:#}");
    }
}

#[test]
fn what_any_handler_can_try_is_stopped_in_each_kind_of_handler() {
    for kind in ["http", "command"] {
        let mut demo = host();
        demo.args(["demo", "--json", "--kind", kind]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(demo.spawn().unwrap(), 5 * PATIENCE);
        let text = String::from_utf8(output.stdout).unwrap();
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let faults: Vec<_> = rows.iter().filter(|row| !row["fault"].is_null()).collect();
        assert!(faults.is_empty(), "{kind}: {faults:#?}");
        for pool in ["thread", "process"] {
            let made = rows.iter().filter(|row| row["pool"] == pool).count();
            assert!(made > 65, "{kind}, {pool} pool: {made}");
        }
    }
}

#[test]
fn the_summary_counts_what_was_not_applicable_apart() {
    let attacks = ["native-ring", "native-see-memory", "exit-1"];
    let mut command = host();
    command.args(["demo", "--pool", "thread"]);
    let output = attacks.iter().fold(&mut command, |c, name| c.args(["--only", name])).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    let last = output.lines().last();
    let expected = "all 2 attacks ended as they must: 1 stopped, 1 open; 1 more are not applicable";
    assert_eq!(last, Some(expected), "{output}");
}

#[test]
fn an_attack_that_does_not_exist_is_an_error_that_names_those_that_do() {
    let output = output(host().args(["demo", "--only", "nonsense"]));
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    let expected = "error: --only: there is no attack 'nonsense', but these: loop, ";
    assert!(line.starts_with(expected) && line.ends_with(", native-die\n"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn the_attacks_are_listed_with_what_each_tries() {
    let list = |arguments: &[&str]| {
        let output = output(host().args(["demo", "--list"]).args(arguments));
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let text = list(&[]);
    assert!(text.starts_with("loop                       computes for ever\n"), "{text}");
    let objects = list(&["--json"]);
    assert_eq!(objects.lines().count(), text.lines().count());
    for (line, object) in text.lines().zip(objects.lines()) {
        let object: Value = serde_json::from_str(object).unwrap();
        assert!(line.starts_with(object["attack"].as_str().unwrap()), "{line}");
        assert!(line.ends_with(object["tries"].as_str().unwrap()), "{line}");
    }
    assert_eq!(list(&["--only", "native-die"]).lines().count(), 1);
}
