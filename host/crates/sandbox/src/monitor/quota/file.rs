//! An open file, of which the ledger knows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;
use shm::ledger::{FileId, Ledger, OpenFileSlot, Usage};

use super::measure::{block_size, identity, occupied};
use super::reserve::room;

/// How often a file is opened that is replaced meanwhile.
const ATTEMPTS: usize = 100;

/// Bytes of a block of a file system that does not say.
const USUAL_BLOCK: u64 = 4096;

/// A file or directory that is open, and in the ledger for as long as it is.
#[derive(Debug)]
pub struct OpenFile {
    // Closed before the register is left.
    fd: OwnedFd,
    /// What is in the place of that file.
    adopted: OnceLock<OwnedFd>,
    register: Option<Register>,
    /// The name in the served directory by which it was created for this handle alone, if that is of use.
    created_as: Option<Box<str>>,
}

/// The place in the ledger of a file that is open, or about to be opened.
#[derive(Debug)]
pub struct Register {
    ledger: Arc<Ledger>,
    place: OpenFileSlot,
    /// The file that is expected to be opened.
    expected: Option<FileId>,
    grown: AtomicBool,
    /// The file goes when it is closed.
    goes: AtomicBool,
}

impl OpenFile {
    /// What `open` opens beneath the served directory, and what the kernel knows of it. A file that
    /// was deleted before the ledger knew of it is not taken: its name may lead to what has
    /// replaced it, and so it is opened anew.
    ///
    /// # Errors
    /// What `open` or the kernel says; `BUSY` when it was replaced time and again.
    pub(in super::super) fn open(
        register: Register,
        open: impl Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<(Self, Stat), Errno> {
        for _ in 0..ATTEMPTS {
            let fd = open()?;
            if let Some(stat) = register.look_at(&fd)? {
                return Ok((Self::new(fd, Some(register)), stat));
            }
        }
        Err(Errno::BUSY)
    }

    /// Takes a file of the served directory that no call has open any more, by that slot of the ledger; `None`
    /// when that has no place left. A file that has no name any more takes its space for as long.
    ///
    /// # Errors
    /// Those of the kernel; `INVAL` when it is no regular file, `DQUOT` when it was deleted before the ledger knew
    /// of it, and there is no room for it.
    pub fn held(ledger: &Arc<Ledger>, slot: u32, fd: OwnedFd) -> Result<Option<Self>, Errno> {
        let found = fstat(&fd)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let Some(register) = Register::new(ledger, slot) else { return Ok(None) };
        register.identify(identity(&found));
        let stat = fstat(&fd)?;
        ledger.at_least(register.place, occupied(&stat));
        ledger.set_growing(register.place, 0);
        if stat.st_nlink == 0 {
            // Nobody may have counted it meanwhile.
            room(ledger, Usage::bytes(occupied(&stat))).map_err(|_| Errno::DQUOT)?;
            ledger.stale();
        }
        // Its end is told of, should it have no name then.
        register.grown.store(true, Ordering::Relaxed);
        Ok(Some(Self::new(fd, Some(register))))
    }

    fn new(fd: OwnedFd, register: Option<Register>) -> Self {
        Self { fd, adopted: OnceLock::new(), register, created_as: None }
    }

    /// Closes the file, which gives back its blocks if it was deleted. The ledger has it as open until the result is dropped.
    #[must_use]
    pub fn close(mut self) -> Option<Register> {
        self.note_end();
        self.register.take()
    }

    /// Has the ledger be told at the end of a file that goes when it is closed.
    fn note_end(&self) {
        // Of one that was only read, the next count hears soon enough.
        if let Some(register) = &self.register
            && register.grown.load(Ordering::Relaxed)
            && fstat(self).is_ok_and(|stat| stat.st_nlink == 0)
        {
            register.goes.store(true, Ordering::Relaxed);
        }
    }

    /// Notes the name in the served directory by which it has just been created.
    pub(in super::super) fn note_name(&mut self, name: &str) {
        self.created_as = Some(name.into());
    }

    /// The name in the served directory by which it was created, if that was noted.
    pub(in super::super) fn created_as(&self) -> Option<&str> {
        self.created_as.as_deref()
    }

    /// From here on this is another file, which has the first one's name; that may happen once.
    pub(in super::super) fn adopt(&self, file: OwnedFd, stat: &Stat) {
        if self.adopted.set(file).is_ok()
            && let Some(register) = &self.register
        {
            register.identify(identity(stat));
        }
    }

    /// A call of this handler has made it that long.
    pub(super) fn has_grown_to(&self, length: u64) {
        if let Some(Register { ledger, place, grown, .. }) = &self.register {
            ledger.at_least(*place, length);
            grown.store(true, Ordering::Relaxed);
        }
    }

    /// Says, until the result is dropped, that it is growing to that length: whoever counts
    /// takes it to be that long, even if another call shortens it before it has grown.
    pub(super) fn growing_to(&self, length: u64) -> Growing<'_> {
        if let Some(Register { ledger, place, .. }) = &self.register {
            ledger.set_growing(*place, length);
        }
        Growing(self.register.as_ref())
    }

    /// Says, until the result is dropped, that it may become shorter: whoever counts takes it
    /// to be as long as it is known to have been.
    pub(super) fn shortening(&self) -> Growing<'_> {
        if let Some(Register { ledger, place, .. }) = &self.register {
            ledger.set_shortening(*place);
        }
        Growing(self.register.as_ref())
    }

    /// Says, until the result is dropped, that it may be longer than anybody knows: whoever
    /// counts and does not find it waits.
    pub(super) fn of_unknown_length(&self) -> Growing<'_> {
        if let Some(Register { ledger, place, .. }) = &self.register {
            ledger.set_unknown(*place);
        }
        Growing(self.register.as_ref())
    }

    /// Bytes of a block of the file system that it is in.
    #[must_use]
    pub fn block_size(&self) -> u64 {
        fstat(self).map_or(USUAL_BLOCK, |stat| block_size(&stat))
    }

    /// The number of the device of the file system that it is in.
    #[must_use]
    pub fn device(&self) -> u64 {
        fstat(self).map_or(0, |stat| stat.st_dev)
    }

    /// The greatest length that any call which has it open knows of.
    pub(super) fn known_length(&self) -> u64 {
        let known = |register: &Register| register.ledger.known_length(register.place);
        self.register.as_ref().map_or(0, known)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.note_end();
    }
}

/// A file whose length is changing.
pub(super) struct Growing<'a>(Option<&'a Register>);

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if let Some(Register { ledger, place, .. }) = self.0 {
            ledger.set_growing(*place, 0);
        }
    }
}

/// A file that no call can delete, such as the served directory itself.
impl From<OwnedFd> for OpenFile {
    fn from(fd: OwnedFd) -> Self {
        Self::new(fd, None)
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.adopted.get().unwrap_or(&self.fd).as_fd()
    }
}

impl Register {
    pub(super) fn new(ledger: &Arc<Ledger>, slot: u32) -> Option<Self> {
        let place = ledger.take_place(slot)?;
        let (grown, goes) = (AtomicBool::new(false), AtomicBool::new(false));
        Some(Self { ledger: Arc::clone(ledger), place, expected: None, grown, goes })
    }

    /// What is about to be opened, as it was just found. To know it beforehand saves a look
    /// at it afterwards.
    pub(in super::super) fn expect(&mut self, stat: &Stat) {
        if is_known(FileType::from_raw_mode(stat.st_mode)) {
            self.identify(identity(stat));
            self.expected = Some(identity(stat));
        }
    }

    /// Makes an open file known, and says what the kernel knows of it; `None` when it was deleted
    /// before.
    fn look_at(&self, fd: &OwnedFd) -> Result<Option<Stat>, Errno> {
        let mut stat = fstat(fd)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if is_known(file_type) {
            if self.expected != Some(identity(&stat)) {
                self.identify(identity(&stat));
                stat = fstat(fd)?;
            }
            // It was identified before: whoever deletes it now leaves a file that the ledger
            // knows is open. A directory that was deleted before does not grow any more.
            if stat.st_nlink == 0 && file_type == FileType::RegularFile {
                return Ok(None);
            }
            self.ledger.at_least(self.place, occupied(&stat));
            self.ledger.set_growing(self.place, 0);
        } else if self.expected.is_some() {
            self.ledger.anonymous(self.place);
        }
        Ok(Some(stat))
    }

    /// Says which file it is, before its length is known.
    fn identify(&self, file: FileId) {
        self.ledger.identify(self.place, file);
    }
}

/// Whether the ledger knows which files of this type are open.
fn is_known(file_type: FileType) -> bool {
    matches!(file_type, FileType::RegularFile | FileType::Directory)
}

impl Drop for Register {
    fn drop(&mut self) {
        if *self.grown.get_mut() {
            self.ledger.pass_on(self.place);
        }
        self.ledger.leave(self.place);
        if *self.goes.get_mut() {
            self.ledger.stale();
        }
    }
}
