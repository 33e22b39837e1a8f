//! The tasks of a component of WASI 0.3, all of which one thread runs.

pub(crate) mod fiber_stacks;
pub(crate) mod waiting;
