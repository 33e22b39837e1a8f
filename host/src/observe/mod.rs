//! What an operator sees: the log, the counters, and the lines of the audit.

pub mod audit_sink;
pub mod log;
pub mod metrics;
