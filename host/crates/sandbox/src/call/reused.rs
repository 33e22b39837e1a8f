//! A hole (`holes`): the instance of a worker's call serves the next one, too.

use std::cell::RefCell;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::Instance;

use super::{Answer, Call, CallContext, instantiate, invoke};
use crate::engine::Sandbox;
use crate::handler::Handler;
use crate::monitor::State;

thread_local! {
    /// The instance of this worker's last call, unless that failed.
    static KEPT: RefCell<Option<(Store<State>, Instance)>> = const { RefCell::new(None) };
}

/// Runs `handler` on a request in the instance of the last one.
pub(super) fn call(
    sandbox: &Sandbox,
    handler: &Handler,
    context: CallContext<'_>,
    request: &[u8],
) -> Call {
    let started = Instant::now();
    let deadline = started + sandbox.limits.timeout;
    let running = sandbox.running();
    let (mut store, kept) = match KEPT.take() {
        Some((mut store, instance)) => {
            store.data_mut().renew(context, deadline);
            (store, Some(instance))
        }
        None => (sandbox.store(handler, context, &running, deadline), None),
    };
    sandbox.arm(&mut store, &running, deadline);
    let instance = kept.map_or_else(|| instantiate(&mut store, handler, deadline), Ok);
    let called = instance.and_then(|instance| {
        Ok((instance, invoke(&mut store, instance, handler, request, deadline)?))
    });
    let (instance, answered) = match called {
        Ok((instance, answer)) => (Some(instance), Ok(answer)),
        Err(error) => (None, Err(error)),
    };
    let answered = sandbox.judge(answered, &mut store);
    let (captured, denials) = store.data_mut().end_output();
    let (result, cause) = match answered {
        Ok(answer) => {
            let response = match answer {
                Answer::Borrowed(list) => list.as_le_slice(&store).to_vec().into(),
                Answer::Copied(message) => message.into(),
            };
            KEPT.set(instance.map(|instance| (store, instance)));
            (Ok(response), None)
        }
        Err((error, cause)) => (Err(error), cause),
    };
    Call { result, captured, elapsed: started.elapsed(), cause, denials, timing: None }
}
