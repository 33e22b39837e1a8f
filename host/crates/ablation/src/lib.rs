//! What is there for speed alone, and can be left out: for benchmarks.
//!
//! `host/benches/tricks` must show what each trick buys. So it drives a `host` with the feature
//! `ablation`, which is `switches` here, and leaves out those that the variable `HOST_WITHOUT`
//! names, separated by commas. What takes a trick's place is what is there in any case. Without
//! that feature no such variable is read, and no trick can be left out.

/// The variable that names what is left out.
pub const VARIABLE: &str = "HOST_WITHOUT";

/// Something that makes requests cheaper, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Records of files are lowered as a whole, and not field by field by the bindings.
    FastLower,
    /// A response is read where the guest left it, and not copied before the guest frees it.
    BorrowedResult,
    /// The thread pool writes a long response from its instance, and does not copy it.
    KeptInstance,
    /// A module reaches what it imports without the shim module of its component.
    DirectImports,
    /// The directory is open for listings, and not opened for each.
    DirStreams,
    /// Memories are cleared and used again, and not mapped by wasmtime for each instance.
    RecycledMemories,
    /// Of a memory that is used again, only what was ever written to is cleared.
    WrittenParts,
    /// Pages of a large memory stay with it, and do not go back to the kernel.
    KeptPages,
    /// Memories of a handler that asks for it grow without the kernel, its addresses being compared.
    ComparedAddresses,
    /// An engine for each core, and not one for all threads.
    Shards,
    /// As many workers are hot as there are cores, and not as many as have something to do.
    Schedule,
    /// A worker process is sent requests ahead of the one that it runs.
    Pipelining,
    /// The I/O thread is woken once for several answers.
    Coalescing,
    /// A thread that is done takes what another was given and has not begun.
    Stealing,
    /// The kernel takes workers for batch jobs.
    BatchPolicy,
    /// Small requests go through the ring, and not through the socket, one at a time.
    Ring,
    /// A long response of a worker process is read where it lies, and not sent through the socket.
    SharedRegions,
    /// Lines of the access log are put together by hand, and not by `tracing`.
    PlainLines,
    /// The allocator keeps large blocks, and does not give them back to the kernel.
    KeptBlocks,
}

impl Trick {
    /// Whether it was asked to leave this one out.
    #[cfg(feature = "switches")]
    #[must_use]
    pub fn is_left_out(self) -> bool {
        LEFT_OUT.contains(&self)
    }

    /// Never.
    #[cfg(not(feature = "switches"))]
    #[must_use]
    pub const fn is_left_out(self) -> bool {
        false
    }
}

#[cfg(feature = "switches")]
const NAMES: [(&str, Trick); 19] = [
    ("fast-lower", Trick::FastLower),
    ("borrowed-result", Trick::BorrowedResult),
    ("kept-instance", Trick::KeptInstance),
    ("direct-imports", Trick::DirectImports),
    ("dir-streams", Trick::DirStreams),
    ("recycled-memories", Trick::RecycledMemories),
    ("written-parts", Trick::WrittenParts),
    ("kept-pages", Trick::KeptPages),
    ("compared-addresses", Trick::ComparedAddresses),
    ("shards", Trick::Shards),
    ("schedule", Trick::Schedule),
    ("pipelining", Trick::Pipelining),
    ("coalescing", Trick::Coalescing),
    ("stealing", Trick::Stealing),
    ("batch-policy", Trick::BatchPolicy),
    ("ring", Trick::Ring),
    ("shared-regions", Trick::SharedRegions),
    ("plain-lines", Trick::PlainLines),
    ("kept-blocks", Trick::KeptBlocks),
];

#[cfg(feature = "switches")]
static LEFT_OUT: std::sync::LazyLock<Vec<Trick>> = std::sync::LazyLock::new(|| {
    let named = std::env::var(VARIABLE).unwrap_or_default();
    let tricks = named.split(',').filter_map(|name| NAMES.iter().find(|(known, _)| *known == name));
    tricks.map(|(_, trick)| *trick).collect()
});

/// What is left out, for the log; empty if nothing is.
#[cfg(feature = "switches")]
#[must_use]
pub fn left_out() -> String {
    format!("{:?}", *LEFT_OUT)
}
