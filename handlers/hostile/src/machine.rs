//! What only WebAssembly has, with stand-ins so that the crate is also checked
//! where it cannot run.

#[cfg(target_arch = "wasm32")]
mod wasm {
    #[link(wasm_import_module = "wasi:filesystem/types@0.2.12")]
    unsafe extern "C" {
        /// The import that `wasip2` calls when a descriptor is dropped, at its version.
        #[link_name = "[resource-drop]descriptor"]
        fn resource_drop_descriptor(handle: u32);
    }

    /// Adds 64 KiB pages to the memory and returns where they begin; `None` if refused.
    pub fn grow(pages: usize) -> Option<*mut u8> {
        let before = core::arch::wasm32::memory_grow::<0>(pages);
        (before != usize::MAX).then(|| core::ptr::with_exposed_provenance_mut(before << 16))
    }

    /// Executes the instruction `unreachable`.
    pub fn trap() -> ! {
        core::arch::wasm32::unreachable()
    }

    /// Drops the descriptor of that number, if there is one.
    pub fn drop_descriptor(handle: u32) {
        // SAFETY: the host checks the number.
        unsafe { resource_drop_descriptor(handle) }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod wasm {
    pub fn grow(_pages: usize) -> Option<*mut u8> {
        None
    }

    pub fn trap() -> ! {
        std::process::abort()
    }

    pub fn drop_descriptor(_handle: u32) {}
}

pub use wasm::{drop_descriptor, grow, trap};
