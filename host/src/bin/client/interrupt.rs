//! What is said when somebody interrupts the client in the middle of something.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use indicatif::ProgressBar;
use signal_hook::consts::SIGINT;

/// What shells report of a program that an interrupt ended.
const STATUS: i32 = 128 + SIGINT;

/// The line to clear and the text to print in its place.
static LAST_WORDS: Mutex<Option<(ProgressBar, String)>> = Mutex::new(None);

fn last_words() -> MutexGuard<'static, Option<(ProgressBar, String)>> {
    LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While this lives, an interrupt prints the text, once the line of progress is gone.
pub(crate) struct Explanation(());

impl Explanation {
    pub(crate) fn new(progress: &ProgressBar, text: String) -> io::Result<Self> {
        static WATCH: Once = Once::new();
        let mut watching = Ok(());
        WATCH.call_once(|| watching = watch());
        watching?;
        *last_words() = Some((progress.clone(), text));
        Ok(Self(()))
    }
}

impl Drop for Explanation {
    fn drop(&mut self) {
        *last_words() = None;
    }
}

fn watch() -> io::Result<()> {
    let (mut interrupted, signal) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, signal)?;
    std::thread::Builder::new().spawn(move || {
        let _ = interrupted.read_exact(&mut [0]);
        if let Some((progress, text)) = &*last_words() {
            progress.finish_and_clear();
            let _ = writeln!(io::stderr(), "{}", printable::lines(text));
        }
        std::process::exit(STATUS);
    })?;
    Ok(())
}
