//! How far a transfer is, on a terminal.

use std::ops::Deref;

use indicatif::{ProgressBar, ProgressStyle};

/// Of a transfer whose length is known.
const KNOWN: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";

/// Of a transfer that has no end yet.
const UNKNOWN: &str = "{msg} {spinner} {bytes} {bytes_per_sec}";

/// A line on standard error if that is a terminal. The line is gone when this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A transfer of that many bytes, of which some are there.
    pub(crate) fn new(verb: &'static str, there: u64, length: Option<u64>) -> Self {
        let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new).with_message(verb);
        let template = if length.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        // Speed is that of the bytes that come now.
        let bar = bar.with_position(there);
        bar.reset_eta();
        Self(bar)
    }
}

impl Deref for Progress {
    type Target = ProgressBar;

    fn deref(&self) -> &ProgressBar {
        &self.0
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
