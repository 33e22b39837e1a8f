//! What an operator sees: the log, the counters, and the lines of the audit; `symbolize` finds the lines
//! of a trap.

pub mod audit_sink;
pub mod log;
pub mod metrics;
pub mod symbolize;
