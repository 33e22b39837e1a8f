//! What must hold of all that reads bytes of others, whatever the bytes. The properties stand beside
//! what they are of, where the tests try them on the corpus.

#[path = "../../crates/http1/tests/framing/properties.rs"]
pub mod http;

#[path = "../../crates/shm/tests/hostile/properties.rs"]
pub mod worker;

#[allow(dead_code, reason = "the server uses more of it")]
#[path = "../../crates/sandbox/src/component"]
mod component {
    pub(crate) mod adapted;
    pub(crate) mod borrowed_result;
    pub(crate) mod complexity;
    pub(crate) mod initial_image;
    pub(crate) mod properties;
    pub(crate) mod refusal;
    pub(crate) mod sections;
    pub(crate) mod shim;
    pub(crate) mod touches;

    pub(crate) const PAGE: usize = 64 << 10;
}

/// What the sandbox has, and is not needed as a whole.
mod limits {
    pub(crate) const MEMORIES: usize = 4;
    pub(crate) const MODULES: usize = 128;
}

/// A component: what is known of it, and what is added to it.
pub fn check_component(input: &[u8]) {
    component::properties::check_component(input);
}

#[path = "../../src/observe/symbolize"]
mod symbolize {
    pub(crate) mod lines;
}

/// A component that carries DWARF: the lines of some of its instructions.
pub fn check_symbols(input: &[u8]) {
    let step = (input.len() / 5).max(1);
    let offsets: Vec<_> = (0..input.len()).step_by(step).collect();
    assert_eq!(symbolize::lines::find(input, &offsets).len(), offsets.len());
}
