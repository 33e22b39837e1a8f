//! Why a file is not taken as a handler, in one line that says what to do instead.

use super::borrowed_result::BORROWED_RESULT;

/// The function that a handler exports, with its type.
const HANDLE: &str = "`handle: func(request: list<u8>) -> list<u8>`";

/// Why a file was not taken as a handler.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not WebAssembly at all.
    #[error("not a valid WebAssembly component: it {0}")]
    NotWasm(&'static str),
    /// Cut short, or not valid.
    #[error("not a valid WebAssembly component: {0}")]
    Invalid(String),
    /// Valid with proposals that no handler may use.
    #[error(
        "it is valid WebAssembly, but uses {0}, which is not offered to handlers: build it without"
    )]
    Proposal(String),
    /// A core module where a component is wanted.
    #[error(
        "this is a core WebAssembly module without `_start`, neither a command nor a component: build it \
         for wasm32-wasip2, or adapt it with `wasm-tools component new`"
    )]
    CoreModule,
    /// A core module that imports from something else than WASI preview 1.
    #[error(
        "it is a core WebAssembly module and imports from `{0}`, which is not offered: build it for \
         wasm32-wasip1 or wasm32-wasip2"
    )]
    CoreImport(String),
    /// A handler of another version of WASI.
    #[error(
        "it is a {kind} of another version of WASI, as it exports {export}: build it for WASI 0.2, or for 0.3 \
         with wasi:http/handler"
    )]
    Version {
        /// What such components are called.
        kind: &'static str,
        /// The export by which they are known.
        export: String,
    },
    /// The component asks for something that no handler gets.
    #[error("it imports {import}, which is not offered to handlers: {advice}")]
    Import {
        /// The first such import, and how many more there are.
        import: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// The interface by which the component is known has not the function that is called.
    #[error("it exports {export} without its function `{function}`")]
    Function {
        /// The interface.
        export: String,
        /// The function.
        function: &'static str,
    },
    /// The component does not export the handler function.
    #[error(
        "it does not export {HANDLE}{0}, nor wasi:http/incoming-handler or wasi:http/handler, nor \
         wasi:cli/run: implement one of them"
    )]
    Export(&'static str),
    /// The component exports a name that only the compiler gives.
    #[error("it exports `{BORROWED_RESULT}`, which is not for handlers to do: rename that export")]
    Reserved,
    /// An instance can never fit within the limits.
    #[error("it cannot be instantiated within the limits: {0}")]
    TooLarge(String),
    /// Machine code of something larger than the limits, or that this executable did
    /// not make.
    #[error("it cannot be loaded within the limits: {0}")]
    Precompiled(String),
}

/// What a file that is not WebAssembly looks like.
pub(crate) fn looks_like(bytes: &[u8]) -> &'static str {
    let begins_with = |magic: &[u8]| bytes.starts_with(magic);
    let text = std::str::from_utf8(bytes).ok();
    let first_word = text.map(str::trim_start).unwrap_or_default();
    match bytes {
        [] => "is empty",
        _ if b"\0asm\x0d\0\x01\0".starts_with(bytes) => "is cut short within its first 8 bytes",
        _ if begins_with(b"\0asm") => "is WebAssembly of an unknown version",
        _ if begins_with(b"\x7fELF") => "looks like an ELF file, which is native code",
        _ if begins_with(b"MZ") => "looks like a Windows program",
        _ if begins_with(b"\x1f\x8b") => "looks like a gzip archive: unpack it",
        _ if begins_with(b"PK") => "looks like a zip archive: unpack it",
        _ if begins_with(b"\x28\xb5\x2f\xfd") => "looks like a zstd archive: unpack it",
        _ if begins_with(b"!<arch>") => "looks like a static library (ar)",
        _ if begins_with(b"#!") => "looks like a script",
        _ if first_word.starts_with("version https://git-lfs") => {
            "is a pointer of Git LFS: fetch the file with `git lfs pull`"
        }
        _ if first_word.starts_with("(component") || first_word.starts_with("(module") => {
            "looks like WebAssembly text: translate it with `wasm-tools parse`"
        }
        _ if first_word.starts_with("<") => "looks like HTML or XML",
        _ if text.is_some() => "looks like text",
        _ => "does not begin as WebAssembly does",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_webassembly_is_said_to_be_what_it_looks_like() {
        for (bytes, expected) in [
            (&b""[..], "is empty"),
            (b"\0as", "cut short"),
            (b"\0asm\x0d\0", "cut short"),
            (b"\0asm\x07\0\x01\0", "unknown version"),
            (b"\x7fELF\x02\x01\x01", "ELF"),
            (b"PK\x03\x04", "zip"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"#!/bin/sh\n", "script"),
            (b" (component)", "WebAssembly text"),
            (b"<html>", "HTML"),
            (b"hello", "text"),
            ("grüße".as_bytes(), "text"),
            (b"\xff\xfe\0", "does not begin"),
        ] {
            assert!(looks_like(bytes).contains(expected), "{bytes:?}: {}", looks_like(bytes));
        }
    }
}
