//! The properties of the framing and of the check on responses, on generated
//! input; `host/fuzz/run` looks for more.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod properties;

use std::path::Path;

use http1::conformance;
use proptest::prelude::*;

use crate::properties::{
    check_request_input, check_request_stream, check_response, check_response_input,
};

#[test]
fn the_tables_have_the_properties() {
    for (request, _) in conformance::requests() {
        for pieces in [&[][..], &[0], &[6, 0, 30]] {
            check_request_stream(request.as_bytes(), pieces);
        }
    }
    for (response, _) in conformance::responses() {
        for flags in 0..8 {
            let flag = |bit: u8| flags & (1 << bit) != 0;
            check_response(response.as_bytes(), flag(0), flag(1), flag(2));
        }
    }
}

#[test]
fn what_the_fuzzer_found_has_the_properties() {
    for (name, check) in [
        ("requests", check_request_input as fn(&[u8])),
        ("responses", check_response_input as fn(&[u8])),
    ] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().map(Result::unwrap).collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            check(&std::fs::read(input.path()).unwrap());
        }
    }
}

/// Fields that frame messages, now and then broken.
const FIELDS: &str = "((Content-Length|Transfer-Encoding|Connection|Expect|A): ?(chunked|close|[0-9]{1,3}|100-continue|\r|\n|\\PC)\r?\n){0,3}";

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let request = (
        "(GET|POST|HEAD) (/[a-z]{0,3}|\\*|http://a/) HTTP/1\\.[0-2]\r\n",
        "(Host: a\r\n)?",
        FIELDS,
        "\r\n([0-9a-f]{1,2}(;x)?\r\n[a-z]{0,9}\r\n){0,2}(0\r\n(T: t\r\n)?\r\n)?",
    );
    let request = request.prop_map(|(line, host, fields, body)| line + &host + &fields + &body);
    prop::collection::vec(request, 1..4).prop_map(|requests| requests.concat().into_bytes())
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let response = ("HTTP/1\\.[01] [0-9]{2,4} ?[A-Z]{0,3}\r?\n", FIELDS, "\r?\n[a-z]{0,9}");
    response.prop_map(|(line, fields, body)| (line + &fields + &body).into_bytes())
}

proptest! {
    #[test]
    fn streams_frame_alike_however_they_are_cut(
        stream in stream(), pieces in prop::collection::vec(any::<u8>(), 1..5),
    ) {
        check_request_stream(&stream, &pieces);
    }

    #[test]
    fn no_bytes_at_all_upset_the_framing(
        stream: Vec<u8>, pieces in prop::collection::vec(any::<u8>(), 1..5),
    ) {
        check_request_stream(&stream, &pieces);
    }

    #[test]
    fn what_is_forwarded_is_one_response(
        response in response(), is_head: bool, keep_alive: bool, http10: bool,
    ) {
        check_response(&response, is_head, keep_alive, http10);
    }

    #[test]
    fn no_bytes_at_all_upset_the_check(
        response: Vec<u8>, is_head: bool, keep_alive: bool, http10: bool,
    ) {
        check_response(&response, is_head, keep_alive, http10);
    }
}
