//! What an operator sees: the log, the counters, the events, and the lines of the audit; `symbolize` finds
//! the lines of a trap.

pub mod audit_sink;
pub(crate) mod events;
pub mod log;
pub mod metrics;
pub mod symbolize;
pub(crate) mod traces;
