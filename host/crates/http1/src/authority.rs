//! By which names a request calls the server.

use super::fields::values;

/// The authorities of a whole, well-formed request: that of a target in absolute form, and those of
/// the Host fields.
pub fn authorities(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let target = message.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    of_target(target).into_iter().chain(values(message, "host"))
}

/// The authority of a target in absolute form.
fn of_target(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        let authority = || rest.split(|byte| matches!(byte, b'/' | b'?')).next();
        start.eq_ignore_ascii_case(scheme).then(authority).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_of_the_target_and_of_fields_but_not_of_the_body() {
        for (message, expected) in [
            ("GET / HTTP/1.1\r\nHost: a:1\r\n\r\nHost: b\r\n", &["a:1"][..]),
            ("GET / HTTP/1.1\r\nX-Host: b\r\nhOST:a \r\n\r\n", &["a"]),
            ("GET hTTp://b?c HTTP/1.1\r\nHost: a\r\n\r\n", &["b", "a"]),
            ("GET https://b/ HTTP/1.0\r\n\r\n", &["b"]),
            ("GET /http://b/ HTTP/1.0\r\n\r\n", &[]),
            ("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", &[""]),
        ] {
            let found: Vec<_> = authorities(message.as_bytes()).collect();
            let expected: Vec<_> = expected.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(found, expected, "{message}");
        }
    }
}
