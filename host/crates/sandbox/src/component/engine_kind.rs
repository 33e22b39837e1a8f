//! What an engine is set up for: where memories come from, and whether components may have tasks.

use wasmparser::{Parser, Payload};

use super::complexity::Complexity;
use super::kind::{Kind, exported};
use ablation::Trick;

/// The largest memory from the start, in bytes, that is cleared as a whole and used again. Of a larger one, the
/// pages are looked for that were written to: to clear the 1 MiB that a program in Rust starts with takes longer.
pub(crate) const MAX_RECYCLED: u64 = 1 << 18;

/// What an engine is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineKind {
    /// Where its instances have memories from.
    pub memories: Memories,
    /// Whether its components have tasks, streams and futures, as those of WASI 0.3 do. No engine has them for a
    /// component that does without: its handlers are not exposed to what implements them.
    pub concurrent: bool,
}

impl EngineKind {
    /// What most handlers of bytes have.
    pub const PLAIN: Self = Self { memories: Memories::Recycling, concurrent: false };

    /// Each kind, in an order that stays.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let memories = |concurrent| Memories::ALL.map(|memories| Self { memories, concurrent });
        [false, true].into_iter().flat_map(memories)
    }

    /// The kind of engine for a component, which need not be valid.
    #[must_use]
    pub fn suited_to(wasm: &[u8]) -> Self {
        let concurrent =
            exported(wasm).is_some_and(|exports| Kind::Service.find(&exports).is_some());
        Self { memories: Memories::suited_to(wasm), concurrent }
    }
}

/// Where the linear memories of instances come from. An access beyond the end of either meets a page that is
/// not accessible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memories {
    /// From instances that ended, after which they are cleared (`linear_memory`).
    Recycling,
    /// As [`Recycling`](Self::Recycling), but an instance that grows does so without a system call,
    /// as far as others have grown. So what lies beyond its end may be accessible, and machine code
    /// compares every address with the end. That makes a handler slower that computes, and one
    /// faster that only moves bytes.
    Compared,
    /// As [`Recycling`](Self::Recycling), but what an instance starts with is mapped, and copied where it
    /// writes to it; and only the pages are cleared that it wrote to (`linear_memory::imaged`).
    CopyOnWrite,
}

impl Memories {
    pub(crate) const ALL: [Self; 3] = [Self::Recycling, Self::Compared, Self::CopyOnWrite];

    /// What costs less for a component: to clear what its instances have from the start, or to
    /// map it.
    #[must_use]
    pub fn suited_to(wasm: &[u8]) -> Self {
        match Complexity::of(wasm) {
            _ if Trick::RecycledMemories.is_left_out() => Self::CopyOnWrite,
            Ok(complexity) if complexity.largest_memory > MAX_RECYCLED => Self::CopyOnWrite,
            Ok(_) if Trick::ComparedAddresses.is_left_out() => Self::Recycling,
            Ok(_) if asks_for_comparisons(wasm) => Self::Compared,
            // The compiler says what is wrong with it.
            _ => Self::Recycling,
        }
    }
}

/// The custom section by which a module asks for [`Memories::Compared`], whatever it holds.
pub(crate) const COMPARE: &str = "swapbox:compare-addresses";

fn asks_for_comparisons(wasm: &[u8]) -> bool {
    let mut payloads = Parser::new(0).parse_all(wasm).map_while(Result::ok);
    payloads.any(
        |payload| matches!(payload, Payload::CustomSection(section) if section.name() == COMPARE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_gets_the_memories_that_suit_it() {
        for (module, expected) in [
            ("(memory 2)", Memories::Recycling),
            ("(memory 2) (@custom \"swapbox:compare-addresses\" \"\")", Memories::Compared),
            ("(memory 40) (@custom \"swapbox:compare-addresses\" \"\")", Memories::CopyOnWrite),
        ] {
            let text =
                format!("(component (core module $m {module}) (core instance (instantiate $m)))");
            let wasm = wat::parse_str(text).expect(module);
            assert_eq!(Memories::suited_to(&wasm), expected, "{module}");
        }
    }
}
