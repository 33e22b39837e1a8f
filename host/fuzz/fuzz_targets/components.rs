//! A component.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_fuzz::check_component(input));
