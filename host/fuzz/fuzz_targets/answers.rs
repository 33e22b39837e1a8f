//! The words of a slot that a worker writes.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_fuzz::worker::check_answers(input));
