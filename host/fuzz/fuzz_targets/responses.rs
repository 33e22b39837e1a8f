//! A handler's response. The first byte says to which kind of request.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((flags, response)) = input.split_first() {
        let flag = |bit: u8| flags & (1 << bit) != 0;
        host_fuzz::properties::check_response(response, flag(0), flag(1), flag(2));
    }
});
