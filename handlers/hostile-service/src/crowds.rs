//! More of something than a call can need: each ends in a trap, or computes for ever if it does not.

use std::future::Future as _;
use std::mem;
use std::task::{Context, Waker};

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Fields, Response};
use wasip3::wit_bindgen::backpressure_inc;
use wasip3::{wit_future, wit_stream};

use crate::waits::YEAR;
use crate::{Gain, Outcome, abi, refused};

type Answer = Result<Response, ErrorCode>;

/// Tasks of the host: each waits for a year.
pub fn timers() -> Answer {
    loop {
        let mut wait = Box::pin(wait_for(YEAR));
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        mem::forget(wait);
    }
}

pub fn futures() -> Answer {
    loop {
        mem::forget(wit_future::new::<Result<(), ErrorCode>>(|| Ok(())));
    }
}

pub fn streams() -> Answer {
    loop {
        mem::forget(wit_stream::new::<u8>());
    }
}

/// Sets of what can be waited for.
pub fn sets() -> Answer {
    loop {
        abi::new_set();
    }
}

pub fn fields() -> Answer {
    loop {
        mem::forget(Fields::new());
    }
}

/// Up to 16 MiB of fields in one set.
pub fn long_fields() -> Outcome {
    let fields = Fields::new();
    for number in 0..16_384 {
        fields.append(&format!("x-{number}"), &vec![b'a'; 1000]).or_else(refused)?;
    }
    Ok(Gain::Through("16 MiB of fields".into()))
}

pub fn responses() -> Answer {
    loop {
        let (_, trailers) = wit_future::new(|| Ok(None));
        mem::forget(Response::new(Fields::new(), None, trailers));
    }
}

/// Writes that nobody reads, each of a stream of its own.
pub fn writes() -> Answer {
    loop {
        let (mut writer, reader) = wit_stream::new();
        let mut write = Box::pin(async move { writer.write_all(vec![b'a'; 1 << 10]).await });
        assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        mem::forget((write, reader));
    }
}

/// Asks not to be called more often than can be counted.
pub fn backpressure() -> Answer {
    loop {
        backpressure_inc();
    }
}
