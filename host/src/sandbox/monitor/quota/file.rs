//! An open file, of which the ledger knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::super::descriptor::size;
use super::ledger::{Ledger, Place};
use super::measure::identity;

/// A file or directory that is open, and in the ledger for as long as it is.
#[derive(Debug)]
pub struct OpenFile {
    // Closed before the register is left.
    fd: OwnedFd,
    register: Option<Register>,
}

/// The place in the ledger of a file that is open, or about to be opened.
#[derive(Debug)]
pub struct Register {
    ledger: Arc<Ledger>,
    place: Place,
    grown: AtomicBool,
}

impl OpenFile {
    /// What was just opened beneath the served directory, and of which type it is.
    ///
    /// # Errors
    /// `NOENT` when it was deleted before the ledger knew of it; otherwise what the
    /// kernel says.
    pub(in super::super) fn new(
        fd: OwnedFd,
        register: Register,
    ) -> Result<(Self, FileType), Errno> {
        let stat = fstat(&fd)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::RegularFile {
            register.ledger.identify(register.place, identity(&stat));
            // From here on whoever deletes it leaves a file that the ledger knows is open.
            let stat = fstat(&fd)?;
            if stat.st_nlink == 0 {
                return Err(Errno::NOENT);
            }
            register.ledger.at_least(register.place, size(&stat));
        }
        Ok((Self { fd, register: Some(register) }, file_type))
    }

    /// A call of this handler has made it that long.
    pub(super) fn has_grown_to(&self, length: u64) {
        if let Some(Register { ledger, place, grown }) = &self.register {
            ledger.at_least(*place, length);
            grown.store(true, Ordering::Relaxed);
        }
    }

    /// Says, until the result is dropped, that it is growing to that length: whoever counts
    /// takes it to be that long, even if another call shortens it before it has grown.
    pub(super) fn growing_to(&self, length: u64) -> Growing<'_> {
        let growing = Growing(self.register.as_ref());
        growing.set(length);
        growing
    }
}

/// A file that is growing.
pub(super) struct Growing<'a>(Option<&'a Register>);

impl Growing<'_> {
    fn set(&self, length: u64) {
        if let Some(Register { ledger, place, .. }) = self.0 {
            ledger.set_growing(*place, length);
        }
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A file that no call can delete, such as the served directory itself.
impl From<OwnedFd> for OpenFile {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, register: None }
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Register {
    pub(super) fn new(ledger: &Arc<Ledger>, slot: u32) -> Option<Self> {
        let place = ledger.take_place(slot)?;
        Some(Self { ledger: Arc::clone(ledger), place, grown: AtomicBool::new(false) })
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        if *self.grown.get_mut() {
            self.ledger.pass_on(self.place);
        }
        self.ledger.leave(self.place);
    }
}
