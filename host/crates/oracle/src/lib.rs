//! Handlers in the sandbox, and the same handlers with `wasmtime-wasi` in the place of the
//! sandbox's own WASI: for a test that compares what comes of the same calls, and for a benchmark.
//! No server has any of this in it.

mod reference;
mod reference03;
mod sandboxed;

use std::path::Path;

pub use reference::Reference;
pub use reference03::Reference03;
pub use sandboxed::Sandboxed;

/// What one call may reach.
#[derive(Clone, Copy, Debug)]
pub struct Grants<'a> {
    /// The directory that it knows as `folder`.
    pub dir: &'a Path,
    /// Whether it may only be read.
    pub is_read_only: bool,
    /// The environment.
    pub env: &'a [(String, String)],
}
