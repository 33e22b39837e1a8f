//! A worker's datagrams.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_fuzz::worker::check_messages(input));
