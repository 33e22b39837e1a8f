//! Counting the directory while calls go on.

use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::AsFd;
use shm::ledger::{Ledger, OpenFiles, VALUE};

use super::Usage;
use super::measure::{Measured, measure_files};

/// How often, and for how long each time, a count waits for another call to say how long a
/// file without a name is. That takes it a few microseconds, unless it is preempted.
const LOOKS: usize = 20;
const MOMENT: Duration = Duration::from_micros(500);

/// A count that has begun: until it is dropped, those who move things are careful.
pub(super) struct Count<'a> {
    ledger: &'a Ledger,
    slot: u32,
    /// The ledger's numbers when it began.
    numbers: [u64; 2],
    /// What others were adding then.
    held: Usage,
    /// The files that were open, and those that were growing.
    open: OpenFiles,
}

impl<'a> Count<'a> {
    /// Begins, on behalf of the worker with this slot.
    pub(super) fn begin(ledger: &'a Ledger, slot: u32) -> Self {
        let (numbers, held) = ledger.begin_count(slot);
        Self { ledger, slot, numbers, held, open: ledger.open_files(slot) }
    }

    /// Looks at the whole directory, and writes into the ledger what it holds.
    ///
    /// # Errors
    /// When it cannot be counted by the deadline. Nothing is written then.
    pub(super) fn finish(self, dir: impl AsFd, deadline: Instant) -> rustix::io::Result<()> {
        let measured = measure_files(dir, self.ledger.quota(), Some(deadline));
        let measured = measured.inspect_err(|_| self.ledger.stale())?;
        let counted = self.with_open_files(&measured).plus(self.held);
        self.ledger.end_count(self.numbers, counted);
        if self.held != Usage::default() {
            // It may have been counted, too.
            self.ledger.stale();
        }
        Ok(())
    }

    /// What was measured, with open files that were not found, since they have no name any
    /// more or were moved, and with each that was growing as long as it was about to be.
    fn with_open_files(&self, measured: &Measured) -> Usage {
        let OpenFiles { mut lengths, growing, mut unknown } = self.known_open_files(measured);
        let before = &self.open;
        unknown.extend(before.unknown.iter().filter(|file| !lengths.contains_key(file)));
        for (file, length) in &before.lengths {
            // Closed meanwhile: if it had no name it is gone, if it was moved it is not.
            lengths.entry(*file).or_insert_with(|| {
                self.ledger.stale();
                *length
            });
        }
        for file in unknown.into_iter().filter(|file| !measured.found(*file)) {
            // Taken to fill the directory, until the next count.
            lengths.insert(file, VALUE);
            self.ledger.stale();
        }
        let mut bytes: u64 = 0;
        for (file, length) in &measured.files {
            lengths.remove(file);
            let will_be = [&self.open.growing, &growing].map(|files| files.get(file).copied());
            let will_be = will_be.into_iter().flatten().fold(*length, u64::max);
            if will_be > *length {
                self.ledger.stale();
            }
            bytes = bytes.saturating_add(will_be);
        }
        let nameless = lengths.into_values().fold(0, u64::saturating_add);
        Usage { bytes: bytes.saturating_add(nameless), entries: measured.usage.entries }
    }

    /// The open files, once the length of each is known that was not found.
    fn known_open_files(&self, measured: &Measured) -> OpenFiles {
        let mut looks = 0;
        loop {
            let open = self.ledger.open_files(self.slot);
            let known = open.unknown.iter().all(|file| measured.found(*file));
            looks += 1;
            if known || looks == LOOKS {
                return open;
            }
            thread::sleep(MOMENT);
        }
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.ledger.set_counting(self.slot, false);
    }
}
