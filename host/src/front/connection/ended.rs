//! What is said and counted of a request that has ended, and what its client is told where it does not get its
//! handler's answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http1::{Reply, error_response, redirect};
use sandbox::CallError;

use super::failure::Failure;
use super::phase_timer::Stop;
use super::request_line::RequestLine;
use super::{Connection, Next};
use crate::front::context::Context;
use crate::front::spool::SpoolError;
use crate::handlers::routing::Generation;
use crate::observe::log::AccessLogEntry;
use crate::observe::traces::Trace;

impl<'a> Connection<'a> {
    /// What the log says of a request that no worker had.
    pub(super) fn access<'b>(&self, line: &'b RequestLine, number: u64) -> AccessLogEntry<'b>
    where
        'a: 'b,
    {
        AccessLogEntry {
            number,
            client: self.client,
            method: line.method(),
            target: line.target(),
            status: 0,
            bytes: 0,
            handler: Duration::ZERO,
            worker: 0,
            pool: self.context.routes.snapshot(&self.context.metrics),
            error: None,
            stopped_by: None,
            denials: None,
        }
    }

    /// Counts a request that has ended, and tells of it.
    pub(super) fn ended(
        &self,
        access: &AccessLogEntry<'_>,
        began: Instant,
        generation: Option<&Generation>,
        trace: Option<Box<Trace>>,
    ) {
        let Context { metrics, events, .. } = self.context;
        let route = generation.map_or(metrics.stray(), |generation| &generation.metrics);
        route.record(access.method, access.status, began.elapsed());
        metrics.request_ended();
        if let Some(layer) = access.stopped_by {
            route.stopped(layer);
        }
        if let Some(denials) = &access.denials {
            route.denied(denials);
        }
        if let Some(generation) = generation {
            let prefix = &generation.route.prefix;
            match (access.stopped_by, &access.denials) {
                (Some(layer), _) => events.publish(access.to_stop(layer, prefix)),
                (None, Some(denials)) => events.publish(access.to_denial(denials, prefix)),
                (None, None) => {}
            }
        }
        events.publish_request(|| access.to_event());
        self.end_trace(trace, access, generation);
        access.write();
    }

    /// Tells a client why it does not get its handler's answer.
    pub(super) async fn fail(
        &mut self,
        failure: &Failure,
        reply: &Reply,
        access: &mut AccessLogEntry<'_>,
    ) -> Next {
        access.status = failure.status();
        access.error = match failure {
            Failure::Moved(_) => None,
            failure => Some(failure.to_string()),
        };
        access.stopped_by = failure.stopped_by();
        if let Some(why) = failure.refusal() {
            self.context.metrics.refused(why);
        }
        let refused = match failure {
            Failure::ClientGone => {
                self.context.metrics.abandoned();
                return self.next(Err(Stop::Gone), reply.persistence, access);
            }
            Failure::Busy(_)
            | Failure::Full
            | Failure::Spool(SpoolError::Full)
            | Failure::Call(CallError::FilesFull) => true,
            _ => false,
        };
        let response = match failure {
            Failure::Moved(to) => redirect(&to.location, reply),
            failure => error_response(failure.status(), &failure.text(), reply),
        };
        let written = self.write(response, Bytes::new().into(), access).await;
        match self.next(written, reply.persistence, access) {
            Next::KeepOpen if refused => Next::Pause,
            next => next,
        }
    }
}
