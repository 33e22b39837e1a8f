//! What a worker gives back: in memory of the server's own or, when it is long and the worker
//! a process, still in the mailbox.

use std::borrow::Cow;

use bytes::Bytes;

use super::mailbox::Tray;

/// Bytes from a worker.
#[derive(Debug)]
pub(crate) enum Payload {
    /// In memory of the server's own.
    Here(Bytes),
    /// In memory that its worker may still write to: of these only the number is known before
    /// they are copied.
    InTray(Tray),
}

impl Payload {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::InTray(tray) => tray.len(),
        }
    }

    /// The first of them, at most that many.
    pub(crate) fn start(&self, most: usize) -> Cow<'_, [u8]> {
        match self {
            Self::Here(bytes) => bytes.get(..most).unwrap_or(bytes).into(),
            Self::InTray(tray) => tray.copy(most).into(),
        }
    }

    /// The same without the first `count`.
    pub(crate) fn skip(mut self, count: usize) -> Self {
        match &mut self {
            Self::Here(bytes) => drop(bytes.split_to(count.min(bytes.len()))),
            Self::InTray(tray) => tray.skip(count),
        }
        self
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Here(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Tray> for Payload {
    fn from(tray: Tray) -> Self {
        Self::InTray(tray)
    }
}

impl From<Payload> for Bytes {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Here(bytes) => bytes,
            Payload::InTray(tray) => tray.copy(usize::MAX).into(),
        }
    }
}
