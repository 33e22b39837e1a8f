//! Functions of the canonical ABI, called when they must not be.

use wasip3::filesystem::types::Descriptor;
use wasip3::http::types::{ErrorCode, Fields, Response};
use wasip3::random::random::get_random_bytes;
use wasip3::wit_future;

use crate::{Gain, Outcome};

type Answer = Result<Response, ErrorCode>;

#[link(wasm_import_module = "[export]wasi:http/handler@0.3.2")]
unsafe extern "C" {
    /// Returns the response, or the error, as wit-bindgen lowers it.
    #[link_name = "[task-return]handle"]
    fn task_return(
        is_error: i32,
        response: i32,
        _: i32,
        _: u64,
        _: *mut u8,
        _: *mut u8,
        _: usize,
        _: i32,
    );
}

#[link(wasm_import_module = "[export]$root")]
unsafe extern "C" {
    #[link_name = "[task-cancel]"]
    fn task_cancel();
}

#[link(wasm_import_module = "$root")]
unsafe extern "C" {
    #[link_name = "[waitable-set-new]"]
    fn waitable_set_new() -> u32;
}

/// A set of what can be waited for, which nobody drops.
pub fn new_set() -> u32 {
    // SAFETY: it takes nothing.
    unsafe { waitable_set_new() }
}

/// Returns a response here; the caller returns the other one.
pub fn returns_twice() -> Answer {
    let response = || Response::new(Fields::new(), None, wit_future::new(|| Ok(None)).1).0;
    let handle = response().take_handle() as i32;
    let nothing = std::ptr::null_mut();
    // SAFETY: the host looks at nothing but the handle.
    unsafe { task_return(0, handle, 0, 0, nothing, nothing, 0, 0) };
    Ok(response())
}

/// Says that it has been cancelled, though nobody asked for that.
pub fn cancels() -> Answer {
    // SAFETY: it takes nothing.
    unsafe { task_cancel() };
    unreachable!("it was not cancelled")
}

/// Uses a handle that it was never given.
pub async fn uses_no_handle() -> Answer {
    // SAFETY: that is for the host to find out.
    let descriptor = unsafe { Descriptor::from_handle(4711) };
    let _ = descriptor.get_type().await;
    unreachable!("there is no such handle")
}

/// Asks for more random bytes than there is memory.
pub fn random_gigabytes() -> Outcome {
    let got = get_random_bytes(u64::MAX).len();
    Ok(match got {
        0..=1_048_576 => Gain::Nothing("a part of what was asked for"),
        _ => Gain::Through(format!("{got} bytes")),
    })
}
