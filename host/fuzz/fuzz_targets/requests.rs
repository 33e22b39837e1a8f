//! A client's stream, cut into pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_fuzz::http::check_request_input(input));
