//! What is known of how a call failed, for whoever runs the server. The client learns none of it.

use serde::{Deserialize, Serialize};
use wasmtime::{Mutability, Store, Trap, Val, ValType, WasmBacktrace, WasmCoreDump};

use crate::limits::MAX_FRAMES;
use crate::monitor::State;
use printable::{MAX_TEXT, shortened};

/// How far a stack pointer can be below zero when the stack has overflowed: a large frame.
const MAX_FRAME_BYTES: i32 = 16 << 20;

/// What is known of how a call failed, besides its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The host call that ended the guest, and why, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_call: Option<String>,
    /// Why there is no response, although the guest ended well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Where in the guest it ended, the innermost function first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub frames: Vec<Frame>,
}

/// A function of the guest's that was being executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function's name, if the component says one.
    pub function: Option<String>,
    /// The function's index in its module.
    pub index: u32,
    /// Where the instruction lies in the component as it was compiled, in bytes ([`original_offsets`](crate::original_offsets)).
    pub offset: Option<usize>,
}

impl Cause {
    /// Bytes of the longest, as JSON in which each byte of a text may become six.
    pub const MAX_JSON: usize = (MAX_FRAMES + 3) * (6 * MAX_TEXT + 64);

    /// What an error says of where it came from, if it says anything; with `host_call` as the one
    /// that raised it, and the reason why there is no response.
    pub(crate) fn of(
        error: &wasmtime::Error,
        host_call: Option<String>,
        reason: Option<String>,
    ) -> Option<Self> {
        let backtrace = error
            .downcast_ref::<WasmBacktrace>()
            .map(WasmBacktrace::frames)
            .or_else(|| error.downcast_ref::<WasmCoreDump>().map(WasmCoreDump::frames));
        let frames = backtrace.unwrap_or_default().iter().take(MAX_FRAMES).map(|frame| Frame {
            function: frame.func_name().map(shortened),
            index: frame.func_index(),
            offset: frame.module_offset(),
        });
        let frames: Vec<_> = frames.collect();
        let is_known = host_call.is_some() || reason.is_some() || !frames.is_empty();
        let [host_call, reason] = [host_call, reason].map(|text| text.as_deref().map(shortened));
        is_known.then_some(Self { host_call, reason, frames })
    }
}

/// What a trap is known to be, from what it left behind.
///
/// A guest's own stack lies at the beginning of its memory and grows downwards (wasm-ld's
/// `--stack-first`, which is usual). One that overflows reaches beyond zero, and is then out of
/// bounds: its stack pointer, a global, says that it was that.
pub(crate) fn trap(error: &wasmtime::Error, trap: Trap, store: &mut Store<State>) -> Trap {
    let Some(dump) = error.downcast_ref::<WasmCoreDump>() else { return trap };
    let overflowed = dump.globals().iter().any(|global| {
        let ty = global.ty(&mut *store);
        let is_pointer = ty.mutability() == Mutability::Var && ty.content().matches(&ValType::I32);
        is_pointer
            && matches!(global.get(&mut *store), Val::I32(at) if (-MAX_FRAME_BYTES..0).contains(&at))
    });
    match trap {
        Trap::MemoryOutOfBounds if overflowed => Trap::StackOverflow,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_cause_is_no_longer_than_it_may_be() {
        let text = "\u{1}".repeat(1000);
        let frame =
            Frame { function: Some(shortened(&text)), index: u32::MAX, offset: Some(usize::MAX) };
        let [host_call, reason] = [(); 2].map(|()| Some(shortened(&text)));
        let cause = Cause { host_call, reason, frames: vec![frame; MAX_FRAMES] };
        assert!(serde_json::to_vec(&cause).expect("JSON").len() <= Cause::MAX_JSON);
        assert_eq!(shortened("é".repeat(150)).chars().count(), MAX_TEXT / 2);
    }
}
