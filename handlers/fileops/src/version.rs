//! Which version of a file there is, as far as the clock of its file system can tell.
//!
//! That clock has ticks: 2 s at most, and some milliseconds mostly. Two versions that are written
//! within one tick have the same times, and may have the same size. So a file that has changed
//! within the last [`TICK`] is *fresh*: its entity tag is weak, and another one than it has once
//! no other version can come to have the same times.

use alloc::string::String;

use wasip2::clocks::wall_clock::Datetime;

/// Seconds of the longest tick of a file system's clock.
const TICK: u64 = 2;

/// Bytes of the longest entity tag.
const ETAG: usize =
    "W/\"0123456789abcdef.01234567-0123456789abcdef.01234567-0123456789abcdef-fresh\"".len();

/// What identifies one version of a file.
pub struct Version {
    /// The entity tag, in quotes: strong, or weak while the file is fresh.
    pub etag: String,
    /// Another version may follow, or have followed, that nothing tells from this one.
    pub is_fresh: bool,
    /// When the content was changed, in seconds since 1970 and never later than now; nothing for
    /// a time that WASI cannot express. While that is fresh it is the second before, so that
    /// whoever asks by it later gets the file.
    pub modified: Option<u64>,
}

impl Version {
    /// The version of a file of that many bytes, whose content and whose status were last changed
    /// then.
    ///
    /// `now` is from before these were looked at. The time of the status is the kernel's own,
    /// while the other can be set to anything.
    pub fn new(
        modified: Option<Datetime>,
        status_changed: Option<Datetime>,
        size: u64,
        now: Datetime,
    ) -> Self {
        let is_fresh = |time: Datetime| {
            let end = (time.seconds.saturating_add(TICK), time.nanoseconds);
            (now.seconds, now.nanoseconds) < end
        };
        let [of_content, of_status] = [modified, status_changed].map(|time| time.map(is_fresh));
        let fresh = match (of_content, of_status) {
            // Nothing is known that would tell it from others.
            (None, None) => true,
            (content, status) => content == Some(true) || status == Some(true),
        };
        let modified_at = modified.map(|time| {
            time.seconds.min(now.seconds).saturating_sub(u64::from(of_content == Some(true)))
        });
        let etag = etag(status_changed, modified, size, fresh);
        Self { etag, is_fresh: fresh, modified: modified_at }
    }

    /// Whether it is sure that the content has not been changed since then.
    pub fn is_unmodified_since(&self, seconds: u64) -> bool {
        !self.is_fresh && self.modified.is_some_and(|modified| modified <= seconds)
    }
}

/// An entity tag. (By hand: `format!` takes several times as long, and every download has one.)
fn etag(
    status_changed: Option<Datetime>,
    modified: Option<Datetime>,
    size: u64,
    is_fresh: bool,
) -> String {
    let mut etag = String::with_capacity(ETAG);
    etag.push_str(if is_fresh { "W/\"" } else { "\"" });
    for time in [status_changed, modified] {
        if let Some(Datetime { seconds, nanoseconds }) = time {
            push(&mut etag, seconds);
            etag.push('.');
            push(&mut etag, nanoseconds.into());
        }
        etag.push('-');
    }
    push(&mut etag, size);
    etag.push_str(if is_fresh { "-fresh\"" } else { "\"" });
    etag
}

/// Appends a number in hexadecimal digits.
fn push(text: &mut String, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let digit = (number >> (4 * digit)) as usize & 15;
        text.push(char::from(b"0123456789abcdef"[digit]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = 1_000_000_000;

    fn time(seconds: u64, nanoseconds: u32) -> Datetime {
        Datetime { seconds, nanoseconds }
    }

    fn version(modified: Datetime, status_changed: Datetime, now: Datetime) -> Version {
        Version::new(Some(modified), Some(status_changed), 7, now)
    }

    #[test]
    fn an_entity_tag_is_in_hexadecimal_digits() {
        let numbers = [0, 1, 15, 16, 0x0a_bc00, u64::MAX];
        for (seconds, size) in numbers.into_iter().zip(numbers.into_iter().rev()) {
            for nanoseconds in [0, SECOND - 1, u32::MAX] {
                let expected =
                    format!("\"{seconds:x}.{nanoseconds:x}-{size:x}.{nanoseconds:x}-{size:x}\"");
                let (changed, modified) = (time(seconds, nanoseconds), time(size, nanoseconds));
                assert_eq!(etag(Some(changed), Some(modified), size, false), expected);
                let weak = etag(Some(changed), Some(modified), size, true);
                assert!(weak.len() <= ETAG, "{weak}");
            }
        }
        assert_eq!(etag(Some(time(16, 0)), None, 1, false), "\"10.0--1\"");
        assert_eq!(etag(None, None, 1, true), "W/\"--1-fresh\"");
    }

    #[test]
    fn a_file_is_fresh_until_a_tick_is_over() {
        let old = time(10, 0);
        for (changed, now, expected) in [
            (time(100, 5), time(100, 5), true),
            (time(100, 5), time(101, SECOND - 1), true),
            (time(100, 5), time(102, 4), true),
            (time(100, 5), time(102, 5), false),
            (time(100, 5), time(99, 0), true),
            (time(u64::MAX, 5), time(100, 5), true),
        ] {
            assert_eq!(version(old, changed, now).is_fresh, expected, "{changed:?} {now:?}");
            assert_eq!(version(changed, old, now).is_fresh, expected, "{changed:?} {now:?}");
        }
    }

    #[test]
    fn a_fresh_file_has_another_tag_than_it_has_later() {
        let changed = time(100, 0);
        let (fresh, later) =
            (version(changed, changed, changed), version(changed, changed, time(102, 0)));
        assert!(fresh.etag.starts_with("W/\"") && later.etag.starts_with('"'));
        assert_ne!(fresh.etag.trim_start_matches("W/"), later.etag);
    }

    #[test]
    fn content_that_is_replaced_with_its_time_set_back_is_another_version() {
        let (old, now) = (time(10, 0), time(1000, 0));
        let versions = [time(100, 0), time(200, 0)].map(|changed| version(old, changed, now));
        assert_ne!(versions[0].etag, versions[1].etag);
        // Before 1970.
        let versions =
            [time(100, 0), time(200, 0)].map(|changed| Version::new(None, Some(changed), 7, now));
        assert_ne!(versions[0].etag, versions[1].etag);
        assert!(versions.iter().all(|version| version.modified.is_none() && !version.is_fresh));
    }

    #[test]
    fn a_file_was_modified_in_the_past() {
        let modified = |modified, now| version(modified, time(0, 0), now).modified;
        assert_eq!(modified(time(100, 5), time(200, 0)), Some(100));
        assert_eq!(modified(time(300, 0), time(200, 0)), Some(199));
        // Another version may come to be in the same second.
        assert_eq!(modified(time(100, 5), time(101, 0)), Some(99));
        assert_eq!(modified(time(0, 0), time(0, 0)), Some(0));
    }

    #[test]
    fn nothing_is_sure_of_a_fresh_file() {
        let (old, changed) = (time(10, 0), time(100, 0));
        assert!(!version(old, changed, changed).is_unmodified_since(50));
        let later = version(old, changed, time(102, 0));
        assert!(later.is_unmodified_since(10));
        assert!(!later.is_unmodified_since(9));
        assert!(!Version::new(None, Some(changed), 7, time(102, 0)).is_unmodified_since(1000));
    }
}
