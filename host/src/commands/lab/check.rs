//! `host lab --check`: a sheet of predictions, graded by making its attacks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use attacks::lab::{Bench, EXERCISES, Exercise, LAYERS};
use serde::Deserialize;

use crate::commands::print;

/// Bytes of a sheet.
const MAX_SHEET: u64 = 64 << 10;

/// Predictions by the number of the exercise.
type Predictions = BTreeMap<usize, Answer>;

/// A sheet as it is written, with the numbers as text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    answers: BTreeMap<String, Answer>,
}

/// What stops the attack of an exercise.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an answer is one layer, or one for each pool: { thread = \"…\", process = \"…\" }"
)]
enum Answer {
    /// In both pools.
    Both(String),
    /// In each.
    Each { thread: String, process: String },
}

impl Answer {
    fn on(&self, pool: &str) -> &str {
        match self {
            Self::Both(layer) => layer,
            Self::Each { thread, process } => {
                if pool == "thread" {
                    thread
                } else {
                    process
                }
            }
        }
    }
}

/// Grades a sheet.
///
/// # Errors
/// When it cannot be read or has words that mean nothing, and when a prediction is missing or not what came of the attack.
pub(super) fn grade(path: &Path) -> anyhow::Result<()> {
    let sheet = read(path).with_context(|| format!("--check {}", path.display()))?;
    let bench = Bench::new()?;
    let mut right = 0;
    for (number, exercise) in (1..).zip(EXERCISES) {
        let Exercise { attack, without, why, .. } = exercise;
        let named = match without.is_empty() {
            true => (*attack).to_owned(),
            false => {
                let without: Vec<_> = without.iter().map(|layer| layer.name()).collect();
                format!("{attack} without {}", without.join(" and "))
            }
        };
        let Some(answer) = sheet.get(&number) else {
            say(&format!("{number:2}. {named}: no answer"));
            continue;
        };
        let outcomes = bench.attack(attack, without)?;
        let is_right = outcomes.iter().all(|outcome| answer.on(outcome.pool) == outcome.layer);
        right += usize::from(is_right);
        say(&format!("{number:2}. {named}: {}", if is_right { "right" } else { "not so" }));
        for outcome in outcomes.iter().filter(|outcome| answer.on(outcome.pool) != outcome.layer) {
            let (pool, layer) = (outcome.pool, &outcome.layer);
            say(&format!("      {pool} pool: {layer}, and not {}", answer.on(pool)));
        }
        if !is_right {
            say(&format!("      {why}"));
        }
    }
    let all = EXERCISES.len();
    say(&format!("{right} of {all} right"));
    ensure!(right == all, "{} of {all} exercises are not right", all - right);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Predictions> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SHEET + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_SHEET, "a sheet has at most {MAX_SHEET} bytes");
    let Sheet { answers } = parse(&text)?;
    let mut predictions = Predictions::new();
    for (key, answer) in answers {
        // As it is written there: neither 01 nor +1.
        let number = (1..=EXERCISES.len()).find(|number| number.to_string() == key);
        let number = number
            .with_context(|| format!("there is no exercise {key}, but 1 to {}", EXERCISES.len()))?;
        for pool in ["thread", "process"] {
            let layer = answer.on(pool);
            if !LAYERS.contains(&layer) {
                bail!("{number}: '{layer}' is none of {}", LAYERS.join(", "));
            }
        }
        predictions.insert(number, answer);
    }
    Ok(predictions)
}

fn parse(text: &str) -> anyhow::Result<Sheet> {
    toml::from_str(text).map_err(|fault| {
        // It shows the line, and points at the place in it: it is not for one line.
        let fault = fault.to_string();
        let _ = writeln!(std::io::stderr(), "{}", printable::lines(fault.trim_end()));
        anyhow!("it is no sheet of predictions")
    })
}

fn say(line: &str) {
    print(format!("{}\n", printable::line(line)));
}
