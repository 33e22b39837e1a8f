//! Having a request answered by the pool of its handler.

use std::sync::Arc;

use bytes::Bytes;
use http1::Head;
use sandbox::SpooledBody;

use super::departure::{broken_off, left};
use super::failure::Failure;
use super::traced::enter;
use super::{Connection, request_line};
use crate::handlers::routing::{Generation, hand_on};
use crate::observe::log;
use crate::observe::traces::{Stage, Trace};
use crate::pool::{Done, Origin};

impl Connection<'_> {
    /// Has the pool answer a request, unless the client goes away before.
    pub(super) async fn run(
        &mut self,
        generation: Option<&Generation>,
        head: &Head,
        number: u64,
        message: Bytes,
        body: Option<SpooledBody>,
        trace: &mut Option<Box<Trace>>,
    ) -> Result<Done, Failure> {
        if !request_line::is_for(&self.context.hosts, &message) {
            return Err(Failure::OtherHost);
        }
        let generation = generation.ok_or(Failure::NoRoute)?;
        let mut message = hand_on(&generation.route, message)?;
        if let Some(trace) = &trace {
            message = trace.hand_on(&message);
        }
        let (message, body) = match body {
            Some(body) if !generation.takes_streams => (self.in_memory(message, body).await?, None),
            body => (message, body.map(Arc::new)),
        };
        let timed = trace.as_ref().is_some_and(|trace| trace.is_sampled());
        let (pool, origin) = (&generation.pool, Origin { number, client: self.address, timed });
        enter(trace, Stage::Queue);
        let permit = tokio::select! {
            biased;
            permit = pool.enter(self.lease.address()) => permit?,
            () = left(&self.stream, head.version) => return Err(Failure::ClientGone),
        };
        enter(trace, Stage::HandOver);
        tokio::select! {
            biased;
            done = pool.run(permit, origin, message, body) => {
                if let Some(trace) = trace {
                    trace.called(done.call.elapsed, done.call.timing);
                }
                self.context.metrics.finished();
                log::captured(number, &done.call.captured, &generation.output);
                Ok(done)
            }
            () = broken_off(self.stream.socket()) => Err(Failure::ClientGone),
        }
    }
}
