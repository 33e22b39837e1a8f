//! What the kernel is told of threads and processes: `lockdown` confines workers, with the filter of
//! `seccomp`, `sched` says how they share the processors, `malloc` how the allocator keeps memory; `memfd` has what
//! they are given without a path. `fence` keeps a server in one directory that lacks a layer.

#[cfg(feature = "demo")]
pub(crate) mod fence;
pub mod lockdown;
pub(crate) mod malloc;
pub(crate) mod memfd;
pub(crate) mod sched;
mod seccomp;
