//! Header fields as `wasi:http` has them: names without case, several values of one name, and some that
//! only the server may say.

use std::sync::Arc;

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderMap, HeaderName, HeaderValue, header};
use wasmtime::component::Resource;

use super::TYPES;
use crate::monitor::State;
use crate::monitor::audit::{Argument, Outcome};
use crate::monitor::bindings::wasi::http::types::{self, HeaderError};

/// Bytes of names and values that one set of fields may have, as they are counted: as many as the head of a
/// response may have.
const MAX_FIELDS: usize = 64 << 10;

/// Bytes that a value counts besides its own: what the host keeps for it.
const PER_VALUE: usize = 64;

/// Fields that a guest neither sees nor sets: they are of the connection, or `host`, which a request has as
/// its authority.
const FORBIDDEN: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    HeaderName::from_static("http2-settings"),
];

/// Whether a guest may change fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Mutable,
    /// Fields of a request, or in a response.
    Immutable,
}

/// Why fields are not as a guest would have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::monitor) enum Wrong {
    #[error("the name or the value is no field's")]
    Syntax,
    #[error("the field is the server's to set")]
    Forbidden,
    #[error("the fields are immutable")]
    Immutable,
    /// More than [`MAX_FIELDS`]. The guest ends, since `wasi:http` has no word for it.
    #[error("more than 64 KiB of header fields")]
    TooMany,
}

/// A set of header fields: `wasi:http/types.fields`. A copy shares them until it is changed.
#[derive(Clone)]
pub struct Fields {
    map: Arc<HeaderMap>,
    access: Access,
    /// Bytes that are counted.
    size: usize,
}

impl Fields {
    pub(in crate::monitor) fn empty() -> Self {
        Self { map: Arc::default(), access: Access::Mutable, size: 0 }
    }

    /// The fields of a request, without what a guest does not see.
    pub(super) fn of_request<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut all = Self::empty();
        for (name, value) in fields {
            // A request was checked, and so was its size.
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            if !FORBIDDEN.contains(&name) {
                all.size = all.size.saturating_add(counted(&name, &value));
                let _ = Arc::make_mut(&mut all.map).try_append(name, value);
            }
        }
        all.frozen()
    }

    /// These fields, which the guest can change no more.
    pub(in crate::monitor) fn frozen(mut self) -> Self {
        self.access = Access::Immutable;
        self
    }

    /// A copy of these fields, which the guest can change.
    pub(in crate::monitor) fn thawed(&self) -> Self {
        Self { access: Access::Mutable, ..self.clone() }
    }

    /// All of them, by their names in small letters.
    pub(in crate::monitor) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.map.iter()
    }

    /// The Content-Length, which is a number, and the only one.
    pub(in crate::monitor) fn content_length(&self) -> Option<u64> {
        self.map.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
    }

    pub(in crate::monitor) fn get(&self, name: &str) -> Vec<Vec<u8>> {
        // No name of a field, so there is none of that name.
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Vec::new() };
        self.map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    pub(in crate::monitor) fn has(&self, name: &str) -> bool {
        HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| self.map.contains_key(name))
    }

    pub(in crate::monitor) fn append(&mut self, name: &str, value: Vec<u8>) -> Result<(), Wrong> {
        let name = writable(name)?;
        let value = field_value(&name, value)?;
        if name == CONTENT_LENGTH && self.map.contains_key(&name) {
            return Err(Wrong::Syntax);
        }
        let size = self.size.saturating_add(counted(&name, &value));
        self.change(size, |map| map.try_append(name, value).map(drop))
    }

    pub(in crate::monitor) fn set(
        &mut self,
        name: &str,
        values: Vec<Vec<u8>>,
    ) -> Result<(), Wrong> {
        let name = writable(name)?;
        if name == CONTENT_LENGTH && values.len() > 1 {
            return Err(Wrong::Syntax);
        }
        let values = values.into_iter().map(|value| field_value(&name, value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let more: usize = values.iter().map(|value| counted(&name, value)).sum();
        let size = (self.size.saturating_add(more)).saturating_sub(self.counted_of(&name));
        self.change(size, |map| {
            map.remove(&name);
            for value in values {
                map.try_append(name.clone(), value)?;
            }
            Ok(())
        })
    }

    pub(in crate::monitor) fn delete(&mut self, name: &str) -> Result<(), Wrong> {
        let name = writable(name)?;
        let size = self.size.saturating_sub(self.counted_of(&name));
        self.change(size, |map| {
            map.remove(&name);
            Ok(())
        })
    }

    fn counted_of(&self, name: &HeaderName) -> usize {
        self.map.get_all(name).iter().map(|value| counted(name, value)).sum()
    }

    /// Changes the fields, which are of that size then.
    fn change(
        &mut self,
        size: usize,
        change: impl FnOnce(&mut HeaderMap) -> Result<(), header::MaxSizeReached>,
    ) -> Result<(), Wrong> {
        if self.access == Access::Immutable {
            return Err(Wrong::Immutable);
        }
        if size > MAX_FIELDS {
            return Err(Wrong::TooMany);
        }
        change(Arc::make_mut(&mut self.map)).map_err(|_| Wrong::TooMany)?;
        self.size = size;
        Ok(())
    }
}

/// Bytes that a field counts.
fn counted(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len().saturating_add(value.len()).saturating_add(PER_VALUE)
}

/// A name that a guest may set.
fn writable(name: &str) -> Result<HeaderName, Wrong> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Wrong::Syntax)?;
    match FORBIDDEN.contains(&name) {
        true => Err(Wrong::Forbidden),
        false => Ok(name),
    }
}

fn field_value(name: &HeaderName, value: Vec<u8>) -> Result<HeaderValue, Wrong> {
    // Digits and nothing else (RFC 9110, 8.6).
    let is_number = || {
        let text = std::str::from_utf8(&value).ok().filter(|text| !text.starts_with('+'));
        text.is_some_and(|text| text.parse::<u64>().is_ok())
    };
    if name == CONTENT_LENGTH && !is_number() {
        return Err(Wrong::Syntax);
    }
    HeaderValue::try_from(value).map_err(|_| Wrong::Syntax)
}

impl State {
    /// What a function that changes fields returns.
    pub(super) fn changed<T>(
        &mut self,
        changed: Result<T, Wrong>,
    ) -> wasmtime::Result<Result<T, HeaderError>> {
        let wrong = match changed {
            Ok(value) => return Ok(Ok(value)),
            Err(wrong) => wrong,
        };
        let error = match wrong {
            Wrong::Syntax => HeaderError::InvalidSyntax,
            Wrong::Forbidden => HeaderError::Forbidden,
            Wrong::Immutable => HeaderError::Immutable,
            Wrong::TooMany => return Err(self.not_allowed("more than 64 KiB of header fields")),
        };
        self.refused(Outcome::Failed, &wrong);
        Ok(Err(error))
    }
}

impl types::HostFields for State {
    fn new(&mut self) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "fields.new", Argument::None);
        Ok(self.hand_out(Fields::empty())?)
    }

    fn from_list(
        &mut self,
        entries: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<Resource<Fields>, HeaderError>> {
        self.audit(TYPES, "fields.from-list", Argument::None);
        let mut fields = Fields::empty();
        let mut entries = entries.into_iter();
        let added = entries.try_for_each(|(name, value)| fields.append(&name, value));
        match self.changed(added)? {
            Ok(()) => Ok(Ok(self.hand_out(fields)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn get(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        self.audit(TYPES, "fields.get", Argument::None);
        Ok(self.table.get(&fields)?.get(&name))
    }

    fn has(&mut self, fields: Resource<Fields>, name: String) -> wasmtime::Result<bool> {
        self.audit(TYPES, "fields.has", Argument::None);
        Ok(self.table.get(&fields)?.has(&name))
    }

    fn set(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        values: Vec<Vec<u8>>,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        self.audit(TYPES, "fields.set", Argument::None);
        let changed = self.table.get_mut(&fields)?.set(&name, values);
        self.changed(changed)
    }

    fn delete(
        &mut self,
        fields: Resource<Fields>,
        name: String,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        self.audit(TYPES, "fields.delete", Argument::None);
        let changed = self.table.get_mut(&fields)?.delete(&name);
        self.changed(changed)
    }

    fn append(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        self.audit(TYPES, "fields.append", Argument::None);
        let changed = self.table.get_mut(&fields)?.append(&name, value);
        self.changed(changed)
    }

    fn entries(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        self.audit(TYPES, "fields.entries", Argument::None);
        let owned = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        Ok(self.table.get(&fields)?.iter().map(owned).collect())
    }

    fn clone(&mut self, fields: Resource<Fields>) -> wasmtime::Result<Resource<Fields>> {
        self.audit(TYPES, "fields.clone", Argument::None);
        let copy = self.table.get(&fields)?.thawed();
        Ok(self.hand_out(copy)?)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> wasmtime::Result<()> {
        self.release(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVALID: Result<(), Wrong> = Err(Wrong::Syntax);

    #[test]
    fn names_have_no_case_and_may_have_several_values() {
        let mut fields = Fields::empty();
        assert_eq!(fields.append("X-A", b"1".into()), Ok(()));
        assert_eq!(fields.append("x-a", b"2".into()), Ok(()));
        assert_eq!(fields.get("X-a"), [b"1", b"2"]);
        assert!(fields.has("x-A") && !fields.has("x a"));
        assert_eq!(fields.set("x-a", vec![b"3".into()]), Ok(()));
        assert_eq!(fields.get("x-a"), [b"3"]);
        assert_eq!(fields.delete("X-A"), Ok(()));
        assert_eq!((fields.get("x-a").len(), fields.size), (0, 0));
    }

    #[test]
    fn what_would_end_a_head_or_begin_another_field_is_refused() {
        let mut fields = Fields::empty();
        for name in ["", "a b", "a:", "a\r\nb", "ä", "a\0"] {
            assert_eq!(fields.append(name, b"1".into()), INVALID, "{name:?}");
            assert_eq!(fields.delete(name), INVALID, "{name:?}");
        }
        for value in [&b"a\r\nx: y"[..], b"a\nb", b"\r", b"a\0"] {
            assert_eq!(fields.set("x", vec![value.into()]), INVALID, "{value:?}");
        }
        for length in ["", "+1", "-1", "1 ", "0x1", "18446744073709551616"] {
            assert_eq!(fields.append("Content-Length", length.into()), INVALID, "{length:?}");
        }
        assert_eq!(fields.append("Content-Length", b"1".into()), Ok(()));
        assert_eq!(fields.append("content-length", b"1".into()), INVALID, "one is enough");
        assert_eq!(fields.content_length(), Some(1));
    }

    #[test]
    fn what_is_of_the_connection_is_neither_seen_nor_set() {
        let mut fields = Fields::empty();
        for name in ["Connection", "transfer-encoding", "Host", "UPGRADE", "keep-alive"] {
            let forbidden = Err(Wrong::Forbidden);
            assert_eq!(fields.append(name, b"1".into()), forbidden, "{name}");
            assert_eq!(fields.set(name, vec![]), forbidden, "{name}");
            assert_eq!(fields.delete(name), forbidden, "{name}");
        }
        let sent = [("Host", &b"a"[..]), ("Accept", b"*/*"), ("Connection", b"x")];
        let fields = Fields::of_request(sent.into_iter());
        assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn fields_of_a_request_cannot_be_changed_but_copied() {
        let mut fields = Fields::of_request([("a", &b"1"[..])].into_iter());
        let immutable = Err(Wrong::Immutable);
        assert_eq!(fields.append("b", b"1".into()), immutable);
        assert_eq!(fields.delete("a"), immutable);
        let mut copy = fields.thawed();
        assert_eq!(copy.append("a", b"2".into()), Ok(()));
        assert_eq!((copy.get("a").len(), fields.get("a").len()), (2, 1));
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut fields = Fields::empty();
        let added = (0..2000).map(|number| fields.append(&format!("x-{number}"), Vec::new()));
        assert!(added.filter(|added| *added == Err(Wrong::TooMany)).count() > 1000);
        assert_eq!(fields.set("x", vec![vec![b'a'; MAX_FIELDS]]), Err(Wrong::TooMany));
        assert!(fields.size <= MAX_FIELDS);
    }
}
