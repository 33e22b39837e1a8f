//! The trace of a request, where there are traces. Without them no clock is looked at.

use std::time::Instant;

use super::Connection;
use crate::handlers::routing::Generation;
use crate::observe::log::AccessLogEntry;
use crate::observe::traces::{Ended, Stage, Trace};

impl Connection<'_> {
    /// The trace of a request, or of what there is of one.
    pub(super) fn trace(&self, message: &[u8], began: Instant) -> Option<Box<Trace>> {
        let traces = self.context.traces.as_ref()?;
        Some(Box::new(traces.begin(message, began)))
    }

    /// Tells of a request that has ended.
    pub(super) fn end_trace(
        &self,
        trace: Option<Box<Trace>>,
        access: &AccessLogEntry<'_>,
        generation: Option<&Generation>,
    ) {
        let (Some(traces), Some(trace)) = (&self.context.traces, trace) else { return };
        let prefix = generation.map(|generation| generation.route.prefix.to_string());
        traces.end(
            *trace,
            &Ended {
                number: access.number,
                method: access.method,
                target: access.target,
                scheme: if self.context.tls.is_some() { "https" } else { "http" },
                client: self.address,
                route: prefix.as_deref(),
                status: access.status,
                worker: access.worker,
                error: access.error.as_deref(),
                stopped_by: access.stopped_by,
            },
        );
    }
}

/// A stage of a request begins, if that is traced.
pub(super) fn enter(trace: &mut Option<Box<Trace>>, stage: Stage) {
    if let Some(trace) = trace {
        trace.enter(stage);
    }
}
