//! A component that carries DWARF.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| host_fuzz::check_symbols(input));
