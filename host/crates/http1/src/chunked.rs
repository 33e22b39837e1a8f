//! The chunked transfer coding of a request's body: RFC 9112, 7.1.

use super::head::Reject;

/// Bytes of the line with a chunk's size and its extensions, which are ignored.
const MAX_SIZE_LINE: usize = 1 << 10;

/// What the coding may cost beyond what is reasonable, in bytes: 16 for each chunk,
/// and twice its data. A body must not consist of extensions.
const MAX_EXCESS: usize = 16 << 10;

/// Hexadecimal digits of a chunk's size.
const MAX_DIGITS: usize = 16;

/// Bytes of the trailer section, which is read and dropped.
const MAX_TRAILERS: usize = 8 << 10;

/// Fields that a trailer section must not have (RFC 9110, 6.5.1).
const NO_TRAILERS: &[&str] = &["content-length", "transfer-encoding", "host", "trailer"];

/// Decodes a chunked body piece by piece.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    excess: usize,
    trailers: usize,
    /// Bytes of the chunks so far.
    announced: usize,
    max_body: usize,
}

#[derive(Debug)]
enum State {
    Size,
    Data(usize),
    DataEnd,
    Trailers,
    Done,
}

impl ChunkedDecoder {
    /// A decoder for a body of at most `max_body` bytes.
    #[must_use]
    pub fn new(max_body: usize) -> Self {
        Self { state: State::Size, excess: 0, trailers: 0, announced: 0, max_body }
    }

    /// Whether the whole body has been decoded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Decodes from the start of `input` into `body`; returns how many bytes of
    /// `input` were used. What is left stands at the start of the next input.
    ///
    /// # Errors
    /// A [`Reject`] for what is not a chunked body, or one that is too large.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Reject> {
        let mut rest = input;
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(&mut rest, MAX_SIZE_LINE)? else { break };
                    let size = self.size(line)?;
                    let announced = self.announced.checked_add(size);
                    self.announced = announced
                        .filter(|announced| *announced <= self.max_body)
                        .ok_or(Reject::BodyTooLarge)?;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    let (data, after) = rest.split_at(left.min(rest.len()));
                    body.extend_from_slice(data);
                    rest = after;
                    if data.len() < left {
                        self.state = State::Data(left - data.len());
                        break;
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => match rest {
                    [b'\r', b'\n', after @ ..] => {
                        rest = after;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(Reject::Bad("a chunk is longer than its size")),
                },
                State::Trailers => {
                    let room = MAX_TRAILERS - self.trailers;
                    let Some(line) = take_line(&mut rest, room)? else { break };
                    self.trailers += line.len();
                    if line.is_empty() {
                        self.state = State::Done;
                    } else {
                        check_trailer(line)?;
                    }
                }
                State::Done => break,
            }
        }
        Ok(input.len() - rest.len())
    }

    fn size(&mut self, line: &[u8]) -> Result<usize, Reject> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (number, extension) = line.split_at(digits);
        let plain = match extension.trim_ascii_start().first() {
            None => extension.is_empty(),
            Some(b';') => {
                extension.iter().all(|byte| *byte == b'\t' || (b' '..0x7f).contains(byte))
            }
            Some(_) => false,
        };
        if !plain || digits > MAX_DIGITS {
            return Err(Reject::Bad("a chunk's size is not well-formed"));
        }
        let number = std::str::from_utf8(number).unwrap_or_default();
        let size = u64::from_str_radix(number, 16)
            .map_err(|_| Reject::Bad("a chunk's size is not a number"))?;
        let size = usize::try_from(size).map_err(|_| Reject::BodyTooLarge)?;
        let reasonable = size.saturating_mul(2).saturating_add(16);
        self.excess = (self.excess + line.len()).saturating_sub(reasonable);
        if self.excess > MAX_EXCESS {
            return Err(Reject::Bad("the chunked coding is longer than the body"));
        }
        Ok(size)
    }
}

/// Takes a line and its CR LF; `None` while it is not whole.
fn take_line<'a>(rest: &mut &'a [u8], max: usize) -> Result<Option<&'a [u8]>, Reject> {
    let too_long = Reject::Bad("a line of the chunked coding is too long");
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return if rest.len() > max + 1 { Err(too_long) } else { Ok(None) };
    };
    let (line, after) = rest.split_at(end + 1);
    let Some(line) = line.strip_suffix(b"\r\n").filter(|line| !line.contains(&b'\r')) else {
        return Err(Reject::Bad("a line of the chunked coding does not end in CR LF"));
    };
    if line.len() > max {
        return Err(too_long);
    }
    *rest = after;
    Ok(Some(line))
}

fn check_trailer(line: &[u8]) -> Result<(), Reject> {
    let mut fields = [httparse::EMPTY_HEADER; 1];
    let mut whole = line.to_vec();
    whole.extend_from_slice(b"\r\n\r\n");
    match httparse::parse_headers(&whole, &mut fields) {
        Ok(httparse::Status::Complete((_, [field]))) => {
            match NO_TRAILERS.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
                true => Err(Reject::Bad("a field that cannot be a trailer")),
                false => Ok(()),
            }
        }
        _ => Err(Reject::Bad("a trailer is not well-formed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Reject> {
        let mut decoder = ChunkedDecoder::new(100);
        let mut body = Vec::new();
        let used = decoder.decode(input, &mut body)?;
        Ok(decoder.is_done().then_some((body, used)))
    }

    #[test]
    fn chunks_become_a_body() {
        for (input, expected) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            ("3;x=y\r\nabc\r\n0A ; z\r\n0123456789\r\n00\r\n\r\n", "abc0123456789"),
            ("2\r\n\r\n\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", "\r\n"),
        ] {
            let (body, used) = decode(input.as_bytes()).expect(input).expect(input);
            assert_eq!(body, expected.as_bytes(), "{input}");
            assert_eq!(used, input.len(), "{input}");
        }
    }

    #[test]
    fn what_follows_the_body_is_left() {
        let (_, used) = decode(b"1\r\na\r\n0\r\n\r\nGET /").expect("valid").expect("done");
        assert_eq!(used, 11);
    }

    #[test]
    fn a_line_has_a_bound_before_it_is_whole() {
        // The CR may be there already.
        for (length, is_taken) in [(MAX_SIZE_LINE + 1, true), (MAX_SIZE_LINE + 2, false)] {
            let line = format!("1;{}", "x".repeat(length - 2));
            assert_eq!(decode(line.as_bytes()).is_ok(), is_taken, "{length}");
        }
    }

    #[test]
    fn extensions_have_a_bound_over_all_chunks() {
        let chunk = |length: usize| format!("1;{}\r\na\r\n", "x".repeat(length - 2));
        let excess = |length: usize| length - 2 - 16;
        let many = chunk(MAX_SIZE_LINE).repeat(16);
        let left = MAX_EXCESS - 16 * excess(MAX_SIZE_LINE) + 2 + 16;
        assert_eq!(decode((many.clone() + &chunk(left)).as_bytes()), Ok(None));
        assert!(decode((many + &chunk(left + 1)).as_bytes()).is_err());
    }

    #[test]
    fn bodies_over_the_limit_are_rejected_before_they_arrive() {
        for input in ["65\r\n", "FFFFFFFFFFFFFFFF\r\n", "64\r\n"] {
            let result = decode(input.as_bytes());
            let expected = if input == "64\r\n" { Ok(None) } else { Err(Reject::BodyTooLarge) };
            assert_eq!(result, expected, "{input}");
        }
    }
}
