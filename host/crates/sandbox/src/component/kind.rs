//! The kinds of handlers, which are told apart by what they export.

use wasmparser::{Encoding, Payload};

use super::sections::outermost;
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

/// The function that a handler exports.
pub(crate) const EXPORT: &str = "handle";

/// The interfaces by which other kinds than [`Kind::Bytes`] are known.
const INTERFACES: [(&str, IsVersion, Kind); 3] = [
    ("wasi:http/handler", V3, Kind::Service),
    ("wasi:http/incoming-handler", V2, Kind::Http),
    ("wasi:cli/run", V2, Kind::Command),
];

impl Kind {
    /// Each kind, in the order in which they are looked for.
    const ALL: [Self; 4] = [Self::Service, Self::Bytes, Self::Http, Self::Command];

    /// The kind of a component with these exports, and by which of them it is known. One that has several is
    /// of WASI 0.3 if it can be, as no other kind has what it needs; else the first of them, in the order of [`Kind`].
    pub(crate) fn of<'a>(exports: &[&'a str]) -> Option<(Self, &'a str)> {
        Self::ALL.into_iter().find_map(|kind| Some((kind, kind.find(exports)?)))
    }

    /// Each kind that a component can be taken for, by the names of its exports: it need not be valid, and nothing
    /// else of it is read. `None` of a core module, which has no such names.
    #[must_use]
    pub fn exported_by(wasm: &[u8]) -> Option<Vec<Self>> {
        let exports = exported(wasm)?;
        Some(Self::ALL.into_iter().filter(|kind| kind.find(&exports).is_some()).collect())
    }

    /// The export by which a component of this kind is known, if it has one.
    pub(crate) fn find<'a>(self, exports: &[&'a str]) -> Option<&'a str> {
        if self == Self::Bytes {
            return exports.iter().copied().find(|export| *export == EXPORT);
        }
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

/// The names of what a component exports, which need not be valid; `None` of a core module.
pub(crate) fn exported(wasm: &[u8]) -> Option<Vec<&str>> {
    let mut exports = Vec::new();
    for payload in outermost(wasm).map_while(Result::ok) {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => return None,
            Payload::ComponentExportSection(section) => {
                let names = section.into_iter().map_while(Result::ok);
                exports.extend(names.map(|export| export.name.name));
            }
            _ => {}
        }
    }
    Some(exports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::declared::takes_streams;

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

    /// A component with these exports, and with a module and a component inside.
    fn component(exports: &[&str]) -> Vec<u8> {
        let exports = exports.iter().map(|name| format!(r#"(export "{name}" (instance $i))"#));
        let exports: String = exports.collect();
        let inside = r#"(core module) (component (instance $i) (export "handle" (instance $i)))"#;
        wat::parse_str(format!("(component {inside} (instance $i) {exports})")).expect("its text")
    }

    #[test]
    fn what_a_component_can_be_taken_for_its_exports_say() {
        let [service, http] = ["wasi:http/handler@0.3.0", "wasi:http/incoming-handler@0.2.3"];
        for (exports, expected, streams) in [
            (&["handle"][..], &[Kind::Bytes][..], false),
            (&["x", "handle", http], &[Kind::Bytes, Kind::Http], true),
            (&["wasi:cli/run@0.2.0"], &[Kind::Command], true),
            (&[http, service], &[Kind::Service, Kind::Http], true),
            (&["wasi:http/handler@0.2.0"], &[], false),
            (&[], &[], false),
        ] {
            let found = Kind::exported_by(&component(exports));
            assert_eq!(found.as_deref(), Some(expected), "{exports:?}");
            assert_eq!(takes_streams(found.as_deref()), streams, "{exports:?}");
        }
        let program = wat::parse_str("(module)").expect("a module");
        assert_eq!(Kind::exported_by(&program), None);
        assert!(takes_streams(None), "a program of preview 1 is a command");
    }

    #[test]
    fn what_lies_inside_of_a_component_is_not_read() {
        let mut component = component(&["handle"]);
        let at = component.windows(4).rposition(|four| four == b"\0asm").expect("a component");
        component[at..at + 8].fill(0xff);
        assert_eq!(Kind::exported_by(&component), Some(vec![Kind::Bytes]));
    }
}
