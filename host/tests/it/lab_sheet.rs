//! The laboratory's exercises: the students' sheet, and how it is graded.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use attacks::lab::{EXERCISES, Exercise, REMOVABLE};

use crate::documents::root;
use crate::support::{PATIENCE, finish, host, output};

#[test]
fn a_sheet_that_says_what_the_lesson_says_is_all_right_in_a_trial() {
    let sheet = tempfile::NamedTempFile::new().unwrap();
    let mut text = "[answers]\n".to_owned();
    for (number, Exercise { thread, process, .. }) in (1..).zip(EXERCISES) {
        text += &format!("{number} = {{ thread = \"{thread}\", process = \"{process}\" }}\n");
    }
    fs::write(sheet.path(), text).unwrap();
    let mut check = host();
    check.args(["lab", "--check"]).arg(sheet.path());
    check.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(check.spawn().unwrap(), 5 * PATIENCE);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with(&format!("{0} of {0} right\n", EXERCISES.len())), "{said}");
}

#[test]
fn a_sheet_with_faults_says_which() {
    let check = |text: &str| {
        let sheet = tempfile::NamedTempFile::new().unwrap();
        fs::write(sheet.path(), text).unwrap();
        let output = output(host().args(["lab", "--check"]).arg(sheet.path()));
        assert_eq!(output.status.code(), Some(1), "{text}");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    for (text, why) in [
        ("answers = 1", "\n1 | answers = 1\n"),
        ("[answers]\n1 = \"magic\"", "'magic' is none of deadline, "),
        ("[answers]\n99 = \"wasm\"", "there is no exercise 99"),
        ("[answers]\n01 = \"deadline\"", "there is no exercise 01"),
        ("[answers]\n\"+1\" = \"deadline\"", "there is no exercise +1"),
        ("[answers]\n1 = { thread = \"wasm\" }", "one for each pool: { thread = "),
    ] {
        let said = check(text);
        assert!(said.contains(why) && said.lines().count() < 8, "{said}");
        assert!(said.contains("error: --check ") && !said.contains("\\n"), "{said}");
        assert!(!said.contains("untagged"), "{said}");
    }
    let said = check("[answers]\n3 = \"deadline\"");
    assert!(said.contains(" 3. out-of-bounds: not so"), "{said}");
    assert!(said.contains("thread pool: wasm, and not deadline"), "{said}");
    assert!(said.contains(" 1. loop: no answer"), "{said}");
    assert!(said.contains(&format!("0 of {} right", EXERCISES.len())), "{said}");
}

#[test]
fn the_students_sheet_has_every_exercise() {
    let read = |name: &str| fs::read_to_string(Path::new(&root()).join("docs/teaching").join(name));
    let (sheet, answers) = (read("sheet.md").unwrap(), read("answers.toml").unwrap());
    for (number, Exercise { attack, without, .. }) in (1..).zip(EXERCISES) {
        let layers: Vec<_> = without.iter().map(|layer| layer.name()).collect();
        let missing = if layers.is_empty() { "–".to_owned() } else { layers.join(", ") };
        let row = format!("| {number} | `{attack}` | {missing} |");
        assert!(sheet.contains(&row), "{row}");
        let named = match layers.is_empty() {
            true => format!("# {number} = \"\"  # {attack}\n"),
            false => format!("# {number} = \"\"  # {attack} without {}\n", layers.join(" and ")),
        };
        assert!(answers.contains(&named), "{named}");
    }
}

#[test]
fn every_layer_that_can_be_taken_away_is_in_an_exercise() {
    for layer in REMOVABLE {
        assert!(
            EXERCISES.iter().any(|exercise| exercise.without.contains(&layer)),
            "{}",
            layer.name()
        );
    }
}
