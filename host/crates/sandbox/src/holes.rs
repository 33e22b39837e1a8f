//! Layers of the sandbox that a process does without: for lessons, and for tests of the attack catalogue.
//!
//! A throw-away server that `host lab` or `host demo --without` has started says so ([`Holes::open`]) before it
//! serves. No option, variable or file of another server leads there. Without the feature nothing of it is compiled.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// The layers that this process does without, as bits.
static MISSING: AtomicU8 = AtomicU8::new(0);

/// A layer that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Workers reach no path but the directory.
    Landlock,
    /// Workers have a filter on system calls.
    Seccomp,
    /// The directory holds no more than it may.
    Quota,
    /// Host calls look at the deadline, and end at it.
    Deadline,
    /// The monitor follows no symbolic link out of the directory.
    Paths,
    /// Each request has an instance of its own.
    Instances,
}

/// Layers that are taken away together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holes(u8);

/// There is no layer of that name that could be taken away.
#[derive(Debug, thiserror::Error)]
#[error("there is no such layer, but these: landlock, seccomp, quota, deadline, paths, instances")]
pub struct UnknownLayer;

impl Layer {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Landlock, Self::Seccomp, Self::Quota, Self::Deadline, Self::Paths, Self::Instances];

    /// Whether this process does without it.
    #[must_use]
    pub fn is_missing(self) -> bool {
        Holes::open_here().has(self)
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Quota => "quota",
            Self::Deadline => "deadline",
            Self::Paths => "paths",
            Self::Instances => "instances",
        }
    }
}

impl Holes {
    /// Those of this process.
    #[must_use]
    pub fn open_here() -> Self {
        Self(MISSING.load(Ordering::Relaxed))
    }

    /// Takes these layers away from this process, for good.
    pub fn open(self) {
        MISSING.fetch_or(self.0, Ordering::Relaxed);
    }

    /// Whether no layer is taken away.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether that layer is taken away.
    #[must_use]
    pub fn has(self, layer: Layer) -> bool {
        self.0 & (1 << layer as u8) != 0
    }

    /// The layers that are taken away.
    pub fn layers(self) -> impl Iterator<Item = Layer> {
        Layer::ALL.into_iter().filter(move |layer| self.has(*layer))
    }
}

impl FromIterator<Layer> for Holes {
    fn from_iter<T: IntoIterator<Item = Layer>>(layers: T) -> Self {
        Self(layers.into_iter().fold(0, |bits, layer| bits | 1 << layer as u8))
    }
}

impl FromStr for Layer {
    type Err = UnknownLayer;

    fn from_str(name: &str) -> Result<Self, UnknownLayer> {
        Self::ALL.into_iter().find(|layer| layer.name() == name).ok_or(UnknownLayer)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_the_layers_that_were_named() {
        for layer in Layer::ALL {
            assert_eq!(layer.name().parse::<Layer>().expect("a layer"), layer);
            let holes = Holes::from_iter([layer]);
            assert!(Layer::ALL.iter().all(|other| holes.has(*other) == (*other == layer)));
        }
        assert!("monitor".parse::<Layer>().is_err());
        assert_eq!(Holes::from_iter(Layer::ALL).layers().count(), 6);
        assert!(Holes::default().is_empty() && Holes::open_here().is_empty());
    }
}
