//! Files that are read into the memory of an instance.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::pwrite;
use wasmtime::{Engine, MemoryCreator as _, MemoryType};

use super::*;
use crate::linear_memory::{RecyclingMemories, written};

/// As a stream of WASI 0.3 does it: the kernel writes where nothing has been written to.
#[test]
#[expect(unsafe_code, reason = "memory that a guest has is not a Rust value")]
fn a_file_is_read_into_memory_that_nobody_has_written_to() {
    const BYTES: usize = 1 << 16;
    written::install(&Engine::default()).expect("a signal handler");
    let memories = RecyclingMemories::new(BYTES, true);
    let memory = memories.new_memory(MemoryType::new(1, None), BYTES, None, None, 0);
    let memory = memory.expect("memory");
    // SAFETY: so much of it is accessible, and nobody else has it.
    let buffer = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), BYTES) };
    let file: OwnedFd = memfd_create("file", MemfdFlags::CLOEXEC).expect("memory");
    pwrite(&file, &[7; BYTES], 0).expect("room");
    let mut stream = InputStream::File { fd: Arc::new(file.into()), position: 0 };
    assert_eq!(stream.read_into(buffer), Ok(BYTES));
    assert!(buffer.iter().all(|byte| *byte == 7));
}
