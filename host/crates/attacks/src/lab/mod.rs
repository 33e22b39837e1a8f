//! One attack at a time, on both pools, with or without some layers: what `host lab` shows.
//!
//! Each trial has a server of its own, which is fenced in and ends with it. What an outcome says was observed, as in
//! [`demo`](crate::demo); `exercises` has what a lesson says will be, and a test compares the two.

mod exercises;
mod source;
mod standing;
mod trial;

use serde::Serialize;

pub use self::exercises::{EXERCISES, Exercise, LAYERS, REMOVABLE};
pub use self::standing::{Dashboard, EXAMPLE, Sent, Standing, Swap};
pub use self::trial::{Bench, Outcome, STEPS, UnknownAttack};
use crate::demo::attack::{Attack, On, Way};
use crate::demo::catalogue::ATTACKS;
use crate::demo::name_of;

/// An attack to choose.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// The name, as `host demo` has it.
    pub name: String,
    /// What it tries.
    pub tries: &'static str,
    /// The function that makes it.
    pub source: String,
    /// The file that the function is in.
    pub file: &'static str,
}

/// The attacks that a handler, or native code in its place, makes by one request.
#[must_use]
pub fn choices() -> Vec<Choice> {
    let choice = |attack: &Attack| {
        let name = name_of(attack);
        let (file, source) = source::of(&name)?;
        Some(Choice { name, tries: attack.tries, source, file })
    };
    ATTACKS.iter().filter(|attack| is_offered(attack)).filter_map(choice).collect()
}

fn is_offered(attack: &Attack) -> bool {
    matches!(attack.way, Way::Request(On::Hostile | On::Escaped, _))
}
