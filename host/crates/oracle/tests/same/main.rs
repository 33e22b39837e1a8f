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
use oracle::{Grants, Reference, Sandboxed};
use proptest::prelude::*;

/// The handler that makes the calls.
const HANDLER: &[u8] = include_bytes!("../../../../../handlers/oracle.wasm");

static OURS: LazyLock<Sandboxed> = LazyLock::new(|| Sandboxed::new(HANDLER).expect("a handler"));
static THEIRS: LazyLock<Reference> =
    LazyLock::new(|| Reference::new(HANDLER).expect("a component"));

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

impl Host {
    /// Runs operations in a fresh directory.
    fn run(self, operations: &[Operation], is_read_only: bool) -> Came {
        let dir = tempfile::tempdir().expect("a directory");
        tree::prepare(dir.path());
        let env = [("KEY".to_owned(), "value".to_owned())];
        let grants = Grants { dir: dir.path(), is_read_only, env: &env };
        let request = serde_json::to_vec(operations).expect("operations");
        let (answered, mut output) = match self {
            Self::Ours => {
                let call = OURS.call(&OURS.bind(grants).expect("a handler"), &request);
                let answered = call.result.map(|response| response.bytes().to_vec());
                let why = |error| format!("{error}: {:?}", call.cause);
                (answered.map_err(why), call.captured.bytes)
            }
            Self::Theirs => {
                let (answered, output) = THEIRS.call(grants, &request);
                (answered.map_err(|error| format!("{error:?}")), output)
            }
        };
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
                let mut came = self.run(but_last, is_read_only);
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

/// Compares what comes of operations. One that is meant to differ is left out, and the others
/// are run again.
fn compare(mut operations: Vec<Operation>, is_read_only: bool) {
    loop {
        let [ours, theirs] =
            [Host::Ours, Host::Theirs].map(|host| host.run(&operations, is_read_only));
        let mut pairs = operations.iter().zip(ours.outcomes.iter().zip(&theirs.outcomes));
        let Some((operation, (our, their))) = pairs.find(|(_, (our, their))| our != their) else {
            assert_eq!(ours, theirs, "of {operations:#?}");
            return;
        };
        assert!(
            deliberate::reason(operation, our, their).is_some(),
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
        compare(operations, false);
    }

    #[test]
    fn wasi_calls_come_to_the_same_in_a_read_only_directory(operations in generate::operations()) {
        compare(operations, true);
    }
}
