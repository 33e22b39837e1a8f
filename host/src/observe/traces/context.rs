//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): what a request says of the trace that it belongs to.
//!
//! A client may send anything. What is not exactly as the specification has it counts as not sent, and so do two of
//! what there may be one of.

use std::fmt;

/// Bytes of `traceparent` in version 00.
const PARENT: usize = 55;

/// The most entries of `tracestate`, and the most bytes of all together that are passed on (3.3.1.1 and 3.3.1.5).
const MAX_ENTRIES: usize = 32;
const MAX_STATE: usize = 512;

/// The span that a request was made in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    /// Not zero.
    pub(super) trace_id: u128,
    /// Not zero.
    pub(super) span_id: u64,
    pub(super) is_sampled: bool,
    /// What vendors add; empty if there is nothing, or nothing that makes sense.
    pub(super) state: String,
}

/// A span as `traceparent` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanContext {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) is_sampled: bool,
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*is_sampled))
    }
}

impl Parent {
    /// That of a whole request.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        let mut all = http1::values(message, "traceparent");
        let (only, None) = (all.next()?, all.next()) else { return None };
        let SpanContext { trace_id, span_id, is_sampled } = parse(only)?;
        let state = state(http1::values(message, "tracestate")).unwrap_or_default();
        Some(Self { trace_id, span_id, is_sampled, state })
    }
}

/// `traceparent` (3.2). Of a version to come only what version 00 has is read, as 3.2.4 says.
fn parse(value: &[u8]) -> Option<SpanContext> {
    let (known, rest) = value.split_at_checked(PARENT)?;
    let [v0, v1, b'-', ids @ .., b'-', f0, f1] = known else { return None };
    let (trace_id, span_id) = (ids.get(..32)?, ids.get(33..)?);
    let (version, flags) = (hexadecimal(&[*v0, *v1])?, hexadecimal(&[*f0, *f1])?);
    let is_whole = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let (trace_id, span_id) = (hexadecimal(trace_id)?, hexadecimal(span_id)?);
    let is_valid = is_whole && ids.get(32) == Some(&b'-') && trace_id != 0 && span_id != 0;
    let span_id = u64::try_from(span_id).ok()?;
    is_valid.then_some(SpanContext { trace_id, span_id, is_sampled: flags & 1 == 1 })
}

/// A number in small hexadecimal digits, of at most 128 bits.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    digits.iter().try_fold(0, |number, byte| Some(number << 4 | u128::from(digit(byte)?)))
}

/// All fields of `tracestate` as one (3.3), if every entry is as it must be.
fn state<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let entries = values.flat_map(|value| value.split(|byte| *byte == b','));
    let entries = entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
    let mut state = String::new();
    for (at, entry) in entries.enumerate() {
        if at >= MAX_ENTRIES || !is_entry(entry) {
            return None;
        }
        if at > 0 {
            state.push(',');
        }
        state.push_str(std::str::from_utf8(entry).ok()?);
        if state.len() > MAX_STATE {
            return None;
        }
    }
    Some(state)
}

fn is_entry(entry: &[u8]) -> bool {
    let Some(at) = entry.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) =
        (entry.get(..at).unwrap_or_default(), entry.get(at + 1..).unwrap_or_default());
    let is_value = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    is_key(key) && matches!(value.len(), 1..=256) && value.iter().all(is_value)
}

/// Whether it is the key of a vendor, or of a tenant and its system (3.3.1.3.1).
fn is_key(key: &[u8]) -> bool {
    let is_of = |part: &[u8], most: usize, may_begin_with_digit: bool| {
        let first = part.first().copied().unwrap_or_default();
        let is_start = first.is_ascii_lowercase() || may_begin_with_digit && first.is_ascii_digit();
        let is_part = |byte: &u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte)
        };
        is_start && part.len() <= most && part.iter().all(is_part)
    };
    match key.iter().position(|byte| *byte == b'@') {
        None => is_of(key, 256, true),
        Some(at) => {
            let (tenant, system) = key.split_at(at);
            is_of(tenant, 241, true) && is_of(system.get(1..).unwrap_or_default(), 14, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDS: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

    fn sampled(text: &str) -> Option<bool> {
        let parsed = parse(text.as_bytes())?;
        let ids = (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331);
        assert_eq!((parsed.trace_id, parsed.span_id), ids, "{text}");
        Some(parsed.is_sampled)
    }

    #[test]
    fn a_parent_is_read_strictly() {
        for (flags, expected) in [("00", false), ("01", true), ("03", true), ("fe", false)] {
            assert_eq!(sampled(&format!("00-{IDS}-{flags}")), Some(expected), "{flags}");
        }
        for good in [format!("cc-{IDS}-01"), format!("01-{IDS}-01-what-the-future-has")] {
            assert_eq!(sampled(&good), Some(true), "{good}");
        }
        for bad in [
            String::new(),
            format!("00-{IDS}"),
            format!("00-{IDS}-1"),
            format!("00-{IDS}-01-"),
            format!("00-{IDS}-01,00-{IDS}-01"),
            format!("ff-{IDS}-01"),
            format!("01-{IDS}-01x"),
            format!("0-{IDS}-011"),
            format!("00-{IDS}-0g"),
            format!("00-{}-01", IDS.to_uppercase()),
            format!("00_{IDS}-01"),
            format!("00-{}-01", IDS.replace("-", "0")),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16)),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333+-01".into(),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn two_parents_are_none() {
        let field = format!("traceparent: 00-{IDS}-01\r\n");
        let message = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n{field}");
        assert!(Parent::of(message(&field).as_bytes()).is_some());
        let mixed = field.replace("traceparent", "Traceparent");
        for fields in [String::new(), format!("{field}X: y\r\n{mixed}")] {
            assert_eq!(Parent::of(message(&fields).as_bytes()), None);
        }
    }

    #[test]
    fn a_state_is_whole_or_none() {
        let joined = |values: &[&str]| state(values.iter().map(|value| value.as_bytes()));
        let most: Vec<_> = (0..MAX_ENTRIES).map(|at| format!("k{at}=v")).collect();
        let (most, long) = (most.join(","), format!("a={}", "x".repeat(257)));
        for (values, expected) in [
            (&[][..], Some("")),
            (&["a=1", " ,b@c= 2 ,", "0_-*/=x"], Some("a=1,b@c= 2,0_-*/=x")),
            (&[&most], Some(&*most)),
            (&[&most, "more=1"], None),
            (&["a=1,nonsense"], None),
            (&["A=1"], None),
            (&["a@B=1"], None),
            (&["a@1=1"], None),
            (&["a="], None),
            (&["a=b=c"], None),
            (&["a=\u{e9}"], None),
            (&[&long], None),
            (&[&long[..200], &long[..200], &long[..200]], None),
        ] {
            assert_eq!(joined(values).as_deref(), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in 1u128.., span_id in 1u64.., is_sampled: bool) {
            let context = SpanContext { trace_id, span_id, is_sampled };
            prop_assert_eq!(parse(context.to_string().as_bytes()), Some(context));
        }

        #[test]
        fn whatever_is_read_is_written_alike(text in "[0-9a-f]{2}-[0-9a-fA-F]{30,33}-[0-9a-f]{15,17}-[0-9a-f]{2}-?") {
            if let Some(context) = parse(text.as_bytes()) {
                prop_assert_eq!(&context.to_string()[2..53], &text[2..53]);
            }
        }

        #[test]
        fn no_bytes_are_too_odd(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = [b"GET / HTTP/1.1\r\ntraceparent: ", &*head, b"\r\ntracestate:", &head].concat();
            if let Some(parent) = Parent::of(&message) {
                prop_assert!(parent.trace_id != 0 && parent.span_id != 0);
                prop_assert!(parent.state.len() <= MAX_STATE);
            }
        }
    }
}
