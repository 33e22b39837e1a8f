//! WASI calls come to the same in the sandbox and with `wasmtime-wasi`: what is returned, what is in the directory afterwards, and what was written to standard output.
//!
//! What is meant to differ is in one table (`deliberate`).

#![expect(clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod deliberate;
mod generate;
#[path = "../../../../../handlers/oracle/src/operation.rs"]
#[allow(missing_docs, unreachable_pub, reason = "shared with the handler")]
mod operation;
mod tree;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use operation::{Operation, Outcome};
use oracle::{Grants, Reference, Reference03, Sandboxed};
use proptest::prelude::*;

/// The handlers that make the calls: of WASI 0.2, and of 0.3.
const HANDLER: &[u8] = include_bytes!("../../../../../handlers/oracle.wasm");
const HANDLER_03: &[u8] = include_bytes!("../../../../../handlers/oracle03.wasm");

static OURS: LazyLock<Sandboxed> = LazyLock::new(|| Sandboxed::new(HANDLER).expect("a handler"));
static OURS_03: LazyLock<Sandboxed> =
    LazyLock::new(|| Sandboxed::new(HANDLER_03).expect("a handler"));
static THEIRS: LazyLock<Reference> =
    LazyLock::new(|| Reference::new(HANDLER).expect("a component"));

thread_local! {
    /// For each test its own: what waits for a clock there holds up nobody else.
    static THEIRS_03: Reference03 = Reference03::new(HANDLER_03).expect("a component");
}

/// What users are told of the differences.
const DOCUMENTATION: &str = include_str!("../../../../../docs/wasi.md");

/// What comes of operations.
#[derive(Debug, PartialEq)]
struct Came {
    /// Of each; fewer of them, if the last one ended the guest.
    outcomes: Vec<Outcome>,
    output: String,
    files: BTreeMap<String, String>,
}

/// What an operation comes to that ends the guest.
const ENDED: &str = "(ended)";

/// Bytes of output that the sandbox keeps, for the log.
const KEPT_OUTPUT: usize = 64 << 10;

/// Who runs the operations.
#[derive(Clone, Copy)]
enum Host {
    Ours,
    Theirs,
}

/// A version of WASI, by whose functions operations are made.
#[derive(Clone, Copy, PartialEq)]
pub enum Wasi {
    /// WASI 0.2.
    V2,
    /// WASI 0.3.
    V3,
}

/// What was answered, or why nothing, and what was written to the standard output.
type Answered = (Result<Vec<u8>, String>, Vec<u8>);

impl Host {
    fn call(self, wasi: Wasi, grants: Grants<'_>, request: &[u8]) -> Answered {
        match (self, wasi) {
            (Self::Ours, Wasi::V2) => ours(&OURS, grants, request),
            (Self::Ours, Wasi::V3) => {
                let length = request.len();
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
                );
                let (answered, output) =
                    ours(&OURS_03, grants, &[head.as_bytes(), request].concat());
                (answered.map(|message| body(&message).to_vec()), output)
            }
            (Self::Theirs, Wasi::V2) => {
                let (answered, output) = THEIRS.call(grants, request);
                (answered.map_err(|error| format!("{error:?}")), output)
            }
            (Self::Theirs, Wasi::V3) => {
                let (answered, output) = THEIRS_03.with(|theirs| theirs.call(grants, request));
                (answered.map_err(|error| format!("{error:?}")), output)
            }
        }
    }

    /// Runs operations in a fresh directory.
    fn run(self, wasi: Wasi, operations: &[Operation], is_read_only: bool) -> Came {
        let dir = tempfile::tempdir().expect("a directory");
        tree::prepare(dir.path());
        let env = [("KEY".to_owned(), "value".to_owned())];
        let grants = Grants { dir: dir.path(), is_read_only, env: &env };
        let request = serde_json::to_vec(operations).expect("operations");
        let (answered, mut output) = self.call(wasi, grants, &request);
        output.truncate(KEPT_OUTPUT);
        match answered {
            Ok(answer) => Came {
                outcomes: serde_json::from_slice(&answer).expect("outcomes"),
                output: String::from_utf8_lossy(&output).into(),
                files: tree::describe(dir.path()),
            },
            Err(why) => {
                // It is the last one of the shortest list that ends it.
                let (_, but_last) = operations.split_last().unwrap_or_else(|| panic!("{why}"));
                let mut came = self.run(wasi, but_last, is_read_only);
                if came.outcomes.len() == but_last.len()
                    && !came.outcomes.contains(&Err(ENDED.into()))
                {
                    came.outcomes.push(Err(ENDED.into()));
                }
                came
            }
        }
    }
}

fn ours(handler: &Sandboxed, grants: Grants<'_>, request: &[u8]) -> Answered {
    let call = handler.call(&handler.bind(grants).expect("a handler"), request);
    let answered = call.result.map(|response| response.bytes().to_vec());
    let why = |error| format!("{error}: {:?}", call.cause);
    (answered.map_err(why), call.captured.bytes)
}

/// The body of a message.
fn body(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
    &message[end + 4..]
}

/// Compares what comes of operations. One that is meant to differ is left out, and the others
/// are run again.
fn compare(wasi: Wasi, mut operations: Vec<Operation>, is_read_only: bool) {
    loop {
        let [ours, theirs] =
            [Host::Ours, Host::Theirs].map(|host| host.run(wasi, &operations, is_read_only));
        let mut pairs = operations.iter().zip(ours.outcomes.iter().zip(&theirs.outcomes));
        let Some((operation, (our, their))) = pairs.find(|(_, (our, their))| our != their) else {
            assert_eq!(ours, theirs, "of {operations:#?}");
            return;
        };
        assert!(
            deliberate::reason(wasi, operation, our, their).is_some(),
            "{operation:?} comes to {our:?} in the sandbox, and else to {their:?}, as the last of \
             {operations:#?}"
        );
        let position = operations.iter().position(|other| std::ptr::eq(other, operation));
        operations.remove(position.expect("it is one of them"));
    }
}

#[test]
fn what_is_meant_to_differ_is_documented() {
    for reason in deliberate::reasons() {
        assert!(DOCUMENTATION.contains(&format!("\n- {reason}\n")), "{reason}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wasi_calls_come_to_the_same(operations in generate::operations()) {
        compare(Wasi::V2, operations, false);
    }

    #[test]
    fn wasi_calls_come_to_the_same_in_a_read_only_directory(operations in generate::operations()) {
        compare(Wasi::V2, operations, true);
    }

    #[test]
    fn calls_of_wasi_03_come_to_the_same(operations in generate::operations_03()) {
        compare(Wasi::V3, operations, false);
    }

    #[test]
    fn calls_of_wasi_03_come_to_the_same_in_a_read_only_directory(
        operations in generate::operations_03()
    ) {
        compare(Wasi::V3, operations, true);
    }
}
