//! A handler's response.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_fuzz::http::check_response_input(input));
