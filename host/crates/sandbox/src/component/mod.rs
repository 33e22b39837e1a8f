//! What is done with a component before it is compiled: what it asks for, what an instance of it
//! takes, the export that leaves a response where it is, the shorter way to what it imports, and the touches by which
//! it can be interrupted; and what is made of it for other servers. `rewriting` is all that changes it, and its version.

pub(crate) mod adapted;
pub(crate) mod borrowed_result;
pub(crate) mod complexity;
pub(crate) mod declared;
pub(crate) mod engine_kind;
pub(crate) mod exported;
pub(crate) mod initial_image;
pub(crate) mod kind;
#[cfg(test)]
mod properties;
pub(crate) mod refusal;
pub(crate) mod rewriting;
mod sections;
pub(crate) mod shim;
pub(crate) mod touches;

/// Pages of WebAssembly, in bytes: as large as a page of any kernel, or larger.
pub(crate) const PAGE: usize = 64 << 10;
