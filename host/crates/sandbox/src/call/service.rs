//! One request to a handler of WASI 0.3, whose component has tasks.
//!
//! One thread runs all of them, until the handler has returned and all of its response is there, and then until no task
//! is left, or the deadline passes: what a handler does after its response holds up that response, since it leaves when
//! the call is over. Tasks that then wait at the deadline are ended, and the response is sent; it is not if one computes.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Instance, Resource, ResourceTableError};

use crate::handler::Handler;
use crate::monitor::{HttpError, MAX_HANDLES, Message, Request, ServiceResponse, State};
use crate::tasks::waiting::InVain;

/// Streams, futures, tasks and what else of them an instance may have at a time, each of less than a kilobyte. A stream
/// takes three.
const MAX_CONCURRENT: usize = 4096;

/// Handles that an instance may have at a time, each of a few words.
const MAX_COMPONENT_HANDLES: usize = 16_384;

/// The function that is called.
type Handle = (Result<Resource<ServiceResponse>, HttpError>,);

/// Bounds what a component's tasks take of the host's memory. What would be more ends the call.
pub(crate) fn limit(store: &mut Store<State>) {
    store.set_max_component_handles(MAX_COMPONENT_HANDLES);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(MAX_CONCURRENT);
    }
}

/// Which of a component's limits an error is of, in words that say more than its own.
pub(crate) fn limit_of(error: &wasmtime::Error) -> Option<String> {
    let table = error.downcast_ref::<ResourceTableError>();
    table.filter(|error| matches!(error, ResourceTableError::Full)).map(|_| {
        format!("more than {MAX_HANDLES} handles, or {MAX_CONCURRENT} streams, futures and tasks")
    })
}

pub(crate) fn instantiate(
    store: &mut Store<State>,
    handler: &Handler,
    deadline: Instant,
) -> wasmtime::Result<Instance> {
    let waiting = store.data_mut().waiting();
    waiting.run(deadline, handler.pre.instantiate_async(store))
}

/// Has an instance answer a request.
pub(crate) fn exchange(
    store: &mut Store<State>,
    instance: Instance,
    index: &ComponentExportIndex,
    request: &[u8],
    deadline: Instant,
) -> wasmtime::Result<Message> {
    let handle = instance.get_typed_func::<(Resource<Request>,), Handle>(&mut *store, index)?;
    if request.is_empty() {
        return Ok(Message::default());
    }
    let request = store.data_mut().begin_service(request)?;
    let waiting = store.data_mut().waiting();
    let ended = waiting.run(deadline, async {
        let tasks = store.run_concurrent(async |accessor| {
            let (answer,) = handle.call_concurrent(accessor, (request,)).await?;
            let parts = accessor.with(|access| State::begin_answer(access, answer))?;
            for part in parts {
                // Nothing is sent: that the other side is dropped is what it says.
                let _ = part.await;
            }
            let mut rest = pin!(poll_fn(|context| accessor.poll_no_interesting_tasks(context)));
            rest.as_mut().await;
            wasmtime::Result::Ok(())
        });
        tasks.await?
    });
    if let Err(error) = ended {
        let Some(reason) = error.downcast_ref::<InVain>() else { return Err(error) };
        store.data_mut().waited_in_vain(*reason);
        // Tasks may be left while the response is there all the same.
        if !store.data().has_answered() {
            return Err(error);
        }
    }
    Ok(store.data_mut().end_service()?)
}
