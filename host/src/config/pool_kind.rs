//! Which pool runs handlers, and which handlers it runs.

use serde::Deserialize;

/// Where handlers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PoolKind {
    /// Threads of this process
    #[default]
    Thread,
    /// Worker processes, one request at a time in each
    Process,
}

/// Where handlers of WASI 0.3 may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Wasi03 {
    /// In either pool
    #[default]
    On,
    /// In worker processes alone
    Process,
    /// Nowhere
    Off,
}

impl Wasi03 {
    /// Whether the handlers of that pool may be of WASI 0.3.
    #[must_use]
    pub fn is_taken(self, pool: PoolKind) -> bool {
        match self {
            Self::On => true,
            Self::Process => pool == PoolKind::Process,
            Self::Off => false,
        }
    }
}
