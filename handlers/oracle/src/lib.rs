//! Makes the WASI calls that it is told to, and says what came of each. The request is a list of
//! [`Operation`]s as JSON, and the response the list of their [`Outcome`]s, no HTTP. The test
//! runs it with two implementations of WASI, and compares.
//!
//! Where WASI lets an implementation choose how much it does at a time, it goes on until all is
//! done, and so says the same of any choice.

#![cfg(target_family = "wasm")]

mod clocks;
mod files;
mod operation;
mod streams;
mod values;

use operation::{Operation, Outcome};
use values::{digest, none, nth, pattern};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::Descriptor;
use wasip2::io::streams::{InputStream, OutputStream};

wit_bindgen::generate!({ world: "handler", path: "../../wit" });

struct Oracle;

impl Guest for Oracle {
    fn handle(request: Vec<u8>) -> Vec<u8> {
        let operations: Vec<Operation> = serde_json::from_slice(&request).unwrap();
        let mut open = Open::default();
        // Some hosts have more than one name for it.
        open.descriptors.extend(get_directories().into_iter().take(1).map(|(dir, _)| dir));
        let outcomes: Vec<Outcome> =
            operations.into_iter().map(|operation| open.run(operation)).collect();
        serde_json::to_vec(&outcomes).unwrap()
    }
}

export!(Oracle);

/// What is open.
#[derive(Default)]
struct Open {
    // Streams are closed before what they are of.
    inputs: Vec<InputStream>,
    outputs: Vec<OutputStream>,
    /// The first one is the preopened directory.
    descriptors: Vec<Descriptor>,
}

/// Closes the one with that number.
fn close<T>(open: &mut Vec<T>, number: u8) -> Outcome {
    match open.len() {
        0 => Err(none()),
        count => {
            open.remove(usize::from(number) % count);
            Ok("closed".into())
        }
    }
}

impl Open {
    fn run(&mut self, operation: Operation) -> Outcome {
        use Operation::*;
        match operation {
            Close { descriptor } => {
                // The preopened directory stays.
                let (_, others) = self.descriptors.split_at(1);
                let count = others.len();
                if count == 0 {
                    return Err(none());
                }
                self.descriptors.remove(1 + usize::from(descriptor) % count);
                Ok("closed".into())
            }
            CloseInput { stream } => close(&mut self.inputs, stream),
            CloseOutput { stream } => close(&mut self.outputs, stream),
            ReadStream { .. }
            | WriteStream { .. }
            | AppendStream { .. }
            | Input
            | Output { .. }
            | StreamRead { .. }
            | StreamSkip { .. }
            | StreamWrite { .. }
            | StreamZeroes { .. }
            | StreamFlush { .. }
            | StreamSplice { .. } => self.stream(operation),
            Poll { pollables } => self.poll(&pollables),
            Clock { .. }
            | Resolutions
            | Time
            | Random { .. }
            | RandomNumbers
            | Environment
            | Terminals => clocks::surroundings(operation),
            _ => self.file(operation),
        }
    }
}
