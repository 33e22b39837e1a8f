//! What the fields of an upload say of its body. A field that would have the body mean something
//! else than the file's bytes is not ignored: the file would be spoiled, and the client told that
//! all is well.

use crate::request::Request;

/// Why the body of a request cannot become the file, with the status that says so.
pub fn refusal(request: &Request<'_>) -> Option<(u16, &'static str)> {
    if request.has("content-range") {
        return Some((400, "A part of a file cannot be uploaded: send the whole file"));
    }
    if request.elements("content-encoding").any(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Some((415, "A content coding is not undone here: send the file's own bytes"));
    }
    if request.bytes("content-type").any(is_of_parts) {
        return Some((
            415,
            "A form is not taken apart here: send the file's bytes as the body, \
             as curl -T FILE does",
        ));
    }
    if !request.has("content-length") {
        return Some((411, "How long the file is must be said, by Content-Length or chunks"));
    }
    None
}

/// Whether a media type is that of a body with other bodies in it, which a client has put around
/// the file: a form, or ranges.
fn is_of_parts(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    ["multipart/form-data", "multipart/byteranges"]
        .iter()
        .any(|parts| essence.trim_ascii().eq_ignore_ascii_case(parts.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &str, expected: Option<u16>) {
        let request = format!("PUT /upload/x HTTP/1.1\r\n{fields}\r\n");
        // In Latin-1, which is not always text.
        let request: Vec<_> = request.chars().map(|c| c as u8).collect();
        let request = Request::parse(&request).expect("a request");
        assert_eq!(refusal(&request).map(|(status, _)| status), expected, "{fields}");
    }

    #[test]
    fn a_body_is_the_file_or_refused() {
        check("Content-Length: 0\r\n", None);
        check("", Some(411));
        for (field, expected) in [
            ("Content-Range: bytes 3-5/6", Some(400)),
            ("content-range: bytes 0-5/6", Some(400)),
            ("Content-Range:", Some(400)),
            ("Content-Encoding: gzip", Some(415)),
            ("Content-Encoding: identity", None),
            ("Content-Encoding: Identity, identity", None),
            ("Content-Encoding:", None),
            ("Content-Encoding: identity, GZIP", Some(415)),
            ("Content-Encoding: identity\r\nContent-Encoding: br", Some(415)),
            ("Content-Encoding: \u{fc}", Some(415)),
            ("Content-Type: multipart/form-data; boundary=x", Some(415)),
            ("Content-Type: Multipart/Form-Data", Some(415)),
            ("Content-Type: text/plain\r\nContent-Type: multipart/form-data ;b=c", Some(415)),
            ("Content-Type: multipart/form-data; x=\u{fc}", Some(415)),
            ("Content-Type: multipart/byteranges; boundary=x", Some(415)),
            ("Content-Type: application/x-www-form-urlencoded", None),
            ("Content-Type: text/plain; multipart/form-data", None),
        ] {
            check(&format!("Content-Length: 1\r\n{field}\r\n"), expected);
        }
    }
}
