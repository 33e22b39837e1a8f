//! `--watch`: notices when a tag leads to another manifest in its registry.
//!
//! A registry is asked now and then, and more seldom while it does not answer. It is asked on a thread of its own, so that
//! one that hangs holds up nothing else.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::config::{ContentDigest, Reference};
use crate::registry::{self, Failure};

/// How often a registry is asked where a tag leads.
const INTERVAL: Duration = Duration::from_secs(30);

/// The longest pause before one is asked again that did not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Watches the tags of handlers.
#[derive(Default)]
pub struct TagWatch {
    tags: Vec<Tag>,
    /// The one that is being asked for.
    asking: Option<(Reference, JoinHandle<Result<ContentDigest, Failure>>)>,
}

/// A tag, and when its registry is asked for it.
struct Tag {
    reference: Reference,
    /// Where it led when it was read, or when that was last told of.
    known: Option<ContentDigest>,
    next: Instant,
    pause: Duration,
}

impl TagWatch {
    /// Watches these tags from now on, each for what differs from when it was read.
    pub fn set(&mut self, tags: Vec<(Reference, Option<ContentDigest>)>) {
        let mut before = std::mem::take(&mut self.tags);
        for (reference, read) in tags {
            let is_it = |tag: &Tag| tag.reference == reference;
            if self.tags.iter().any(is_it) {
                continue;
            }
            let at = before.iter().position(is_it);
            let mut tag = at.map_or_else(|| Tag::new(reference), |at| before.swap_remove(at));
            // What could not be read is tried again by whoever tried.
            tag.known = read.or(tag.known);
            self.tags.push(tag);
        }
    }

    /// Resolves to a tag that leads elsewhere than when it was read. Nothing is lost when this is dropped before.
    pub async fn moved(&mut self) -> Reference {
        loop {
            let Some((reference, answer)) = &mut self.asking else {
                let Some(tag) = self.tags.iter().min_by_key(|tag| tag.next) else {
                    return std::future::pending().await;
                };
                sleep_until(tag.next).await;
                let reference = tag.reference.clone();
                let asked = reference.clone();
                self.asking = Some((reference, spawn_blocking(move || registry::resolve(&asked))));
                continue;
            };
            let (reference, found) = (reference.clone(), answer.await);
            self.asking = None;
            let Some(tag) = self.tags.iter_mut().find(|tag| tag.reference == reference) else {
                continue;
            };
            match found {
                Ok(Ok(digest)) if tag.leads_elsewhere(digest) => return reference,
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => tag.fails(&failure.to_string()),
                Err(error) => tag.fails(&error.to_string()),
            }
        }
    }
}

impl Tag {
    fn new(reference: Reference) -> Self {
        Self { reference, known: None, next: Instant::now() + INTERVAL, pause: INTERVAL }
    }

    /// Takes note of where it leads.
    fn leads_elsewhere(&mut self, digest: ContentDigest) -> bool {
        (self.pause, self.next) = (INTERVAL, Instant::now() + INTERVAL);
        self.known.replace(digest) != Some(digest)
    }

    /// Takes note that nobody said.
    fn fails(&mut self, why: &str) {
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        self.next = Instant::now() + self.pause;
        let (reference, seconds) = (&self.reference, self.pause.as_secs());
        tracing::warn!("--watch: {reference}: {why}; it is asked again in {seconds} s");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::digest_of;

    #[test]
    fn a_tag_is_told_of_once_for_each_place_it_leads_to() {
        let reference: Reference = "oci://r/n:1".parse().expect("valid");
        let [one, other] = [b"1", b"2"].map(|bytes| digest_of(bytes));
        let mut watch = TagWatch::default();
        let began = Instant::now();
        watch.set(vec![(reference.clone(), Some(one)), (reference.clone(), Some(one))]);
        assert_eq!(watch.tags.len(), 1, "two handlers may have it");
        assert!(watch.tags[0].next >= began + INTERVAL, "it was just read");
        let tag = &mut watch.tags[0];
        assert!(!tag.leads_elsewhere(one));
        assert!(tag.leads_elsewhere(other));
        assert!(!tag.leads_elsewhere(other));
        // It could not be read, which is not the tag's affair.
        watch.set(vec![(reference.clone(), None)]);
        assert!(!watch.tags[0].leads_elsewhere(other));
        watch.set(vec![(reference, Some(one))]);
        assert!(watch.tags[0].leads_elsewhere(other));
    }

    #[test]
    fn pauses_grow_while_nobody_answers() {
        let mut tag = Tag::new("oci://r/n:1".parse().expect("valid"));
        let pauses: Vec<_> = (0..6)
            .map(|_| {
                tag.fails("no");
                tag.pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [60, 120, 240, 480, 600, 600]);
        tag.leads_elsewhere(digest_of(b"1"));
        assert_eq!(tag.pause, INTERVAL);
    }
}
