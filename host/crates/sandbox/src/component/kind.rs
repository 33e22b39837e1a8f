//! The kinds of handlers, which are told apart by what they export.

use crate::handler::EXPORT;
use crate::offered::{IsVersion, V2, V3, split};

/// What a handler is, and so how it gets its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A component that exports `handle`, which takes a message of HTTP and returns one.
    Bytes,
    /// A component that exports `wasi:http/incoming-handler`.
    Http,
    /// A component that exports `wasi:cli/run`, and speaks CGI.
    Command,
    /// A component that exports `wasi:http/handler`, of WASI 0.3, and may have tasks.
    Service,
}

/// The interfaces by which other kinds than [`Kind::Bytes`] are known, in the order in which they are looked for.
const INTERFACES: [(&str, IsVersion, Kind); 3] = [
    ("wasi:http/handler", V3, Kind::Service),
    ("wasi:http/incoming-handler", V2, Kind::Http),
    ("wasi:cli/run", V2, Kind::Command),
];

impl Kind {
    /// The kind of a component with these exports, and by which of them it is known. One that has several is
    /// of WASI 0.3 if it can be, as no other kind has what it needs; else the first of them, in the order of [`Kind`].
    pub(crate) fn of<'a>(exports: &[&'a str]) -> Option<(Self, &'a str)> {
        if let Some(export) = Self::Service.find(exports) {
            return Some((Self::Service, export));
        }
        if let Some(export) = exports.iter().find(|export| **export == EXPORT) {
            return Some((Self::Bytes, export));
        }
        INTERFACES.iter().find_map(|(.., kind)| Some((*kind, kind.find(exports)?)))
    }

    /// The export by which a component of this kind is known, if it has one.
    pub(crate) fn find<'a>(self, exports: &[&'a str]) -> Option<&'a str> {
        let (interface, is_its, _) = INTERFACES.iter().find(|(.., kind)| *kind == self)?;
        exports.iter().copied().find(|export| {
            let (_, other, version) = split(export);
            other == *interface && is_its(version)
        })
    }

    /// The function by which it is called.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::Bytes | Self::Http | Self::Service => EXPORT,
            Self::Command => "run",
        }
    }

    /// What users call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes: messages of HTTP, by the world of wit/handler.wit",
            Self::Http => "http: wasi:http/incoming-handler",
            Self::Command => "command: CGI, by wasi:cli/run",
            Self::Service => {
                "http, WASI 0.3: wasi:http/handler, in an engine with tasks and streams"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_the_first_of_the_kinds_that_it_exports() {
        let (http, service) = ("wasi:http/incoming-handler@0.2.3", "wasi:http/handler@0.3.2");
        for (exports, expected) in [
            (&["handle"][..], Some((Kind::Bytes, "handle"))),
            (&["wasi:cli/run@0.2.0"], Some((Kind::Command, "wasi:cli/run@0.2.0"))),
            (&["wasi:cli/run@0.2.0", http], Some((Kind::Http, http))),
            (&[http, "x", "handle"], Some((Kind::Bytes, "handle"))),
            (&["wasi:http/incoming-handler@0.3.0", "wasi:http/handler@0.3.0-rc-2026-03-15"], None),
            (&[http, "handle", service], Some((Kind::Service, service))),
            (&["wasi:cli/run"], None),
            (&[], None),
        ] {
            assert_eq!(Kind::of(exports), expected, "{exports:?}");
        }
    }
}
