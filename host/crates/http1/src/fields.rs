//! Fields of a whole, well-formed request: read, and one put in the place of others.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The values of all fields of this name, in their order.
pub fn values<'a>(message: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let fields = lines(message).filter_map(field);
    let named = fields.filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| value.trim_ascii())
}

/// The message with one field more, at the end of its head, and without those of the names that are `taken`.
#[must_use]
pub fn with_field(message: &Bytes, taken: &[&str], name: &str, value: &str) -> Bytes {
    let is_taken = |line: &[u8]| {
        let name = field(line).map(|(name, _)| name).unwrap_or_default();
        taken.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    };
    let head = request_line(message).len() + lines(message).map(<[u8]>::len).sum::<usize>();
    let mut changed = BytesMut::with_capacity(message.len() + name.len() + value.len() + 4);
    changed.put_slice(request_line(message));
    lines(message).filter(|line| !is_taken(line)).for_each(|line| changed.put_slice(line));
    for part in [name, ": ", value, "\r\n"] {
        changed.put_slice(part.as_bytes());
    }
    changed.put_slice(message.get(head..).unwrap_or_default());
    changed.freeze()
}

fn request_line(message: &[u8]) -> &[u8] {
    message.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// The lines of the fields, with their ends.
fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = message.split_inclusive(|byte| *byte == b'\n').skip(1);
    lines.take_while(|line| *line != b"\r\n")
}

/// A field line as name and value.
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    Some((name, value.get(1..)?))
}

/// The elements of a comma-separated field value.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str =
        "PUT /a:b HTTP/1.1\r\nHost: a\r\nX-One: 1 \r\ny:2\r\nx-ONE:\t3\r\n\r\nX-One: 4\r\n";

    #[test]
    fn values_are_of_the_head() {
        let all = |name| values(MESSAGE.as_bytes(), name).collect::<Vec<_>>();
        assert_eq!(all("x-one"), [b"1", b"3"]);
        assert_eq!(all("put /a"), [b""; 0], "the request line is no field");
        assert_eq!(values(b"GET / HTTP/1.1\r\n\r\n", "host").count(), 0);
    }

    #[test]
    fn a_field_takes_the_place_of_others() {
        let message = Bytes::from_static(MESSAGE.as_bytes());
        assert_eq!(
            with_field(&message, &["X-One", "z"], "x-one", "5"),
            "PUT /a:b HTTP/1.1\r\nHost: a\r\ny:2\r\nx-one: 5\r\n\r\nX-One: 4\r\n"
        );
        let none = Bytes::from_static(b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(with_field(&none, &["x"], "x", "5"), "GET / HTTP/1.0\r\nx: 5\r\n\r\n");
    }
}
