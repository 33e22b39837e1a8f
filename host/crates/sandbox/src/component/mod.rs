//! What is done with a component before it is compiled: what it asks for, what an instance of it
//! takes, the export that leaves a response where it is, and the shorter way to what it imports;
//! and what is made of it for other servers. `rewriting` is the version of all that changes it.

pub(crate) mod adapted;
pub(crate) mod borrowed_result;
pub(crate) mod complexity;
pub(crate) mod declared;
pub(crate) mod exported;
pub(crate) mod initial_image;
pub(crate) mod kind;
#[cfg(test)]
mod properties;
pub(crate) mod rewriting;
mod sections;
pub(crate) mod shim;
