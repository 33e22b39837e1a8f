//! A client's stream, cut into pieces. The first byte says how many of the next
//! are lengths of pieces; the stream follows.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((count, rest)) = input.split_first()
        && let Some((pieces, stream)) = rest.split_at_checked(usize::from(*count % 16))
    {
        host_fuzz::properties::check_request_stream(stream, pieces);
    }
});
