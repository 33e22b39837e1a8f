//! What must hold of the host's HTTP, whatever the bytes.

#[path = "../../crates/http1/tests/framing/properties.rs"]
pub mod properties;
