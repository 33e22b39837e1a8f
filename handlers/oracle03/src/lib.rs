//! Makes the calls of WASI 0.3 that it is told to, and says what came of each. The request's body is a list of
//! [`Operation`]s as JSON, and the response's the list of their [`Outcome`]s. The test runs it with two implementations
//! of WASI, and compares.
//!
//! Where WASI lets an implementation choose how much it does at a time, it goes on until all is done, and so says
//! the same of any choice.

#![cfg(target_family = "wasm")]

mod files;
mod http;
#[path = "../../oracle/src/operation.rs"]
mod operation;
mod streams;
mod surroundings;
#[path = "../../oracle/src/values.rs"]
mod values;

use operation::{Operation, Outcome};
use streams::{Input, Output};
use values::{digest, none, nth, pattern};
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::Descriptor;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Oracle;

impl wasip3::exports::http::handler::Guest for Oracle {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (_, taken) = wit_future::new(|| Ok(()));
        let (body, _) = Request::consume_body(request, taken);
        let operations: Vec<Operation> = serde_json::from_slice(&body.collect().await).unwrap();
        let mut open = Open::default();
        // Some hosts have more than one name for it.
        open.descriptors.extend(get_directories().into_iter().take(1).map(|(dir, _)| dir));
        let mut outcomes: Vec<Outcome> = Vec::new();
        for operation in operations {
            outcomes.push(open.run(operation).await);
        }
        open.end().await;
        let answer = serde_json::to_vec(&outcomes).unwrap();
        let (mut writer, body) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        spawn_local(async move {
            writer.write_all(answer).await;
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Oracle);

/// What is open.
#[derive(Default)]
struct Open {
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    /// The first one is the preopened directory.
    descriptors: Vec<Descriptor>,
}

/// Takes the one with that number.
fn take<T>(open: &mut Vec<T>, number: u8) -> Result<T, String> {
    match open.len() {
        0 => Err(none()),
        count => Ok(open.remove(usize::from(number) % count)),
    }
}

impl Open {
    async fn run(&mut self, operation: Operation) -> Outcome {
        use Operation::*;
        match operation {
            Close { descriptor } => {
                // The preopened directory stays.
                let count = self.descriptors.len() - 1;
                if count == 0 {
                    return Err(none());
                }
                self.descriptors.remove(1 + usize::from(descriptor) % count);
                Ok("closed".into())
            }
            ReadStream { .. }
            | WriteStream { .. }
            | AppendStream { .. }
            | Input
            | Output { .. }
            | CloseInput { .. }
            | CloseOutput { .. }
            | StreamRead { .. }
            | StreamWrite { .. }
            | StreamSplice { .. } => self.stream(operation).await,
            Clock { .. }
            | Resolutions
            | Time
            | Random { .. }
            | RandomNumbers
            | Environment
            | Terminals => surroundings::surroundings(operation).await,
            Fields { .. } | Request { .. } | Response { .. } | Body { .. } | Options { .. } => {
                http::message(operation).await
            }
            _ => self.file(operation).await,
        }
    }

    /// Closes all streams, and waits for what they were written to.
    async fn end(&mut self) {
        self.inputs.clear();
        for output in std::mem::take(&mut self.outputs) {
            let _ = output.close().await;
        }
    }
}
