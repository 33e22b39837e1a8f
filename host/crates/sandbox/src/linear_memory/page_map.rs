//! Which pages of a private mapping have been written to: the kernel's `PAGEMAP_SCAN`.
//!
//! `ioctl_pagemap_scan(2)`, of Linux 6.7 and later. A page that was written to is no page of the mapping's file any more,
//! and not the kernel's page of zeros; whether it is in memory or was swapped out.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)`.
pub const PAGEMAP_SCAN: u32 = 3 << 30 | (size_of::<Scan>() as u32) << 16 | (b'f' as u32) << 8 | 16;

/// Pages of one file, or of no memory at all.
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO: u64 = 1 << 5;

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`: addresses, from one on and up to another.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Regions that one system call finds, at most.
const REGIONS: usize = 128;

/// Opens the page map of this process, so that it says nothing of physical addresses: whoever opens it with `CAP_SYS_ADMIN`
/// may read them for as long as it is open.
fn open_without_addresses() -> io::Result<File> {
    let own = capabilities(None)?;
    if !own.effective.contains(CapabilitySet::SYS_ADMIN) {
        return File::open("/proc/self/pagemap");
    }
    // Of this thread alone.
    let less = own.effective - CapabilitySet::SYS_ADMIN;
    set_capabilities(None, CapabilitySets { effective: less, ..own })?;
    let file = File::open("/proc/self/pagemap");
    set_capabilities(None, own)?;
    file
}

/// What the kernel knows of this process's pages.
pub(super) struct PageMap {
    file: File,
    /// Of which process: after a fork it would be the other one's.
    process: u32,
}

impl PageMap {
    /// That of this process; `None` where the kernel cannot be asked, or gives other answers than it is to.
    pub(super) fn of_this_process() -> Option<Self> {
        let file = open_without_addresses().ok()?;
        let map = Self { file, process: std::process::id() };
        map.tells_the_truth().ok()?.then_some(map)
    }

    /// Calls `found` with each stretch of written pages from one address to another: its first address and
    /// its length. `false` if that came to more than so many bytes, before all was found.
    pub(super) fn written(
        &self,
        bytes: Range<usize>,
        at_most: usize,
        mut found: impl FnMut(usize, usize),
    ) -> io::Result<bool> {
        if self.process != std::process::id() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut regions = [Region::default(); REGIONS];
        let (mut start, end) = (bytes.start as u64, bytes.end as u64);
        let mut left = at_most;
        while start < end {
            let (count, walked) = self.scan(start, end, &mut regions)?;
            for region in regions.iter().take(count) {
                let length = region.end.saturating_sub(region.start) as usize;
                match left.checked_sub(length) {
                    Some(fewer) => left = fewer,
                    None => return Ok(false),
                }
                found(region.start as usize, length);
            }
            if walked <= start {
                return Err(io::ErrorKind::InvalidData.into());
            }
            start = walked;
        }
        Ok(true)
    }

    /// How many regions were found, and how far the kernel got.
    fn scan(&self, start: u64, end: u64, regions: &mut [Region]) -> io::Result<(usize, u64)> {
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start,
            end,
            vec: regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: regions.len() as u64,
            category_inverted: IS_FILE | IS_ZERO,
            category_mask: IS_FILE | IS_ZERO,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            ..Scan::default()
        };
        // SAFETY: the kernel writes to `scan`, and to no more of `regions` than there is.
        #[expect(unsafe_code, reason = "there is no other way to make this call")]
        let count =
            unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN.into(), &raw mut scan) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok((count, scan.walk_end))
    }

    /// Whether of two pages of which one was written to, and one only read, that one is found.
    #[expect(unsafe_code, reason = "pages are made for it")]
    fn tells_the_truth(&self) -> io::Result<bool> {
        let page = rustix::param::page_size();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let pages =
            unsafe { mmap_anonymous(ptr::null_mut(), 2 * page, access, MapFlags::PRIVATE)? };
        let (first, second) = (pages.cast::<u8>(), pages.cast::<u8>().wrapping_add(page));
        // SAFETY: both pages are this function's.
        unsafe {
            first.read_volatile();
            second.write_volatile(1);
        }
        let mut seen = Vec::new();
        let scanned = self.written(first.addr()..first.addr() + 2 * page, page, |at, length| {
            seen.push((at, length))
        });
        // SAFETY: nobody has a reference into them.
        unsafe { munmap(pages, 2 * page)? };
        Ok(scanned? && seen == [(second.addr(), page)])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// Where the tests run without that capability, nobody could see any.
    #[test]
    fn the_page_map_has_no_physical_addresses() {
        let before = capabilities(None).expect("this thread's").effective;
        let Some(map) = PageMap::of_this_process() else { return };
        let here = (&raw const before).addr() / rustix::param::page_size();
        let mut entry = [0; 8];
        map.file.read_exact_at(&mut entry, 8 * here as u64).expect("an entry");
        let entry = u64::from_ne_bytes(entry);
        assert_eq!(entry >> 63, 1, "the page is there");
        assert_eq!(entry & ((1 << 55) - 1), 0, "its frame");
        assert_eq!(capabilities(None).expect("this thread's").effective, before);
    }
}
