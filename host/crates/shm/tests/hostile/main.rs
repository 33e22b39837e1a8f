//! What a worker that was taken over writes; `host/fuzz/run` looks for more.

#![expect(clippy::expect_used, reason = "a test may panic")]

mod properties;

use std::path::Path;

#[test]
fn what_the_fuzzer_found_has_the_properties() {
    for (name, check) in [
        ("messages", properties::check_messages as fn(&[u8])),
        ("answers", properties::check_answers as fn(&[u8])),
    ] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            check(&std::fs::read(input.path()).unwrap());
        }
    }
}
