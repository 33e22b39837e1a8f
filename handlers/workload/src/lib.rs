//! What handlers compute that do real work: plain functions of nothing, whose result is a checksum.
//!
//! Each call makes its own input, always the same, so that the answers of two servers can be
//! compared. The path of a request names the work: see [`WORK`].

mod json;

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec};
use sha2::{Digest as _, Sha256};

/// A name, and the work that it stands for, which comes to a checksum.
pub type Work = (&'static str, fn() -> u64);

/// Each piece of work: the path that names it, and the function that does it.
pub const WORK: [Work; 7] = [
    ("/nothing", nothing),
    ("/sha256", sha256),
    ("/sort", sort),
    ("/json", json::write_and_parse),
    ("/blur", blur),
    ("/deflate", deflate),
    ("/chase", chase),
];

/// Does the work that `path` names; the answer is its checksum in text, and a line's end.
pub fn answer(path: &str) -> Option<String> {
    let (_, work) = WORK.iter().find(|(name, _)| *name == path)?;
    Some(format!("{:016x}\n", work()))
}

/// The answer that no work comes before: what a request costs by itself.
fn nothing() -> u64 {
    0
}

/// Hashes 4 MiB.
fn sha256() -> u64 {
    let digest = Sha256::digest(Random::new().bytes(4 << 20));
    digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Sorts 500,000 numbers.
fn sort() -> u64 {
    let mut random = Random::new();
    let mut numbers: Vec<u64> = (0..500_000).map(|_| random.next()).collect();
    numbers.sort();
    checksum(numbers)
}

/// Blurs an image of 512 × 512 pixels four times: each byte becomes the mean of its 3 × 3 neighbours.
fn blur() -> u64 {
    let (width, height) = (512, 512);
    let mut image = Random::new().bytes(4 * width * height);
    for _ in 0..4 {
        image = blurred(&image, width, height);
    }
    checksum(image.into_iter().map(u64::from))
}

/// An RGBA image whose bytes are the means of their 3 × 3 neighbours; beyond the edge, the edge goes on.
fn blurred(image: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut blurred = vec![0; image.len()];
    for y in 0..height {
        let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
        for x in 0..width {
            let columns = [x.saturating_sub(1), x, (x + 1).min(width - 1)];
            for channel in 0..4 {
                let mut sum = 0;
                for row in rows {
                    for column in columns {
                        sum += u32::from(image[4 * (row * width + column) + channel]);
                    }
                }
                blurred[4 * (y * width + x) + channel] = (sum / 9) as u8;
            }
        }
    }
    blurred
}

/// Deflates and inflates 1 MiB of text.
fn deflate() -> u64 {
    let text = text(1 << 20);
    let deflated = compress_to_vec(&text, 6);
    let inflated = decompress_to_vec(&deflated).unwrap_or_default();
    let sum = checksum(deflated.into_iter().map(u64::from));
    if inflated == text { sum } else { 0 }
}

/// Text of so many bytes: random words, of which some are much more frequent than others.
fn text(length: usize) -> Vec<u8> {
    const LETTERS: &[u8; 16] = b"etaoinshrdlucmfw";
    let mut random = Random::new();
    let words: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            let letters = (0..2 + random.below(8)).map(|_| LETTERS[random.below(16)]);
            letters.chain([b' ']).collect()
        })
        .collect();
    let mut text = Vec::with_capacity(length + 10);
    while text.len() < length {
        let most = 1 + random.below(words.len());
        text.extend_from_slice(&words[random.below(most)]);
    }
    text.truncate(length);
    text
}

/// Goes 4,000,000 steps through 1 MiB, each to where the last one says.
fn chase() -> u64 {
    let next = cycle(1 << 18);
    let (mut at, mut sum) = (0_u32, 0_u64);
    for _ in 0..4_000_000 {
        at = next[at as usize];
        sum = sum.wrapping_mul(31).wrapping_add(u64::from(at));
    }
    sum
}

/// A random permutation that is one cycle, by Sattolo's algorithm.
fn cycle(length: u32) -> Vec<u32> {
    let mut random = Random::new();
    let mut next: Vec<u32> = (0..length).collect();
    for last in (1..next.len()).rev() {
        next.swap(last, random.below(last));
    }
    next
}

/// FNV-1a over words in place of bytes: cheap beside any of the work.
fn checksum(words: impl IntoIterator<Item = u64>) -> u64 {
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3);
    words.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Numbers that look random, always the same ones: xorshift64*.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is below 2³².
    fn below(&mut self, bound: usize) -> usize {
        (((self.next() >> 32) * bound as u64) >> 32) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_gives_the_same_checksum_again_and_no_other_works() {
        let mut sums: Vec<_> = WORK.iter().map(|(_, work)| work()).collect();
        assert_eq!(sums, WORK.iter().map(|(_, work)| work()).collect::<Vec<_>>());
        sums.sort();
        sums.dedup();
        assert_eq!(sums.len(), WORK.len());
    }

    #[test]
    fn a_path_that_names_no_work_has_no_answer() {
        assert_eq!(answer("/nothing").as_deref(), Some("0000000000000000\n"));
        assert_eq!(answer("/"), None);
        assert_eq!(answer("sort"), None);
    }

    #[test]
    fn a_cycle_passes_every_place_once() {
        let next = cycle(1000);
        let (mut at, mut passed) = (0, vec![false; next.len()]);
        for _ in 0..next.len() {
            assert!(!std::mem::replace(&mut passed[at as usize], true));
            at = next[at as usize];
        }
        assert_eq!(at, 0);
    }

    #[test]
    fn blurring_takes_the_mean_and_keeps_one_colour() {
        assert_eq!(blurred(&[7; 4 * 5 * 3], 5, 3), [7; 4 * 5 * 3]);
        let mut dot = vec![0; 4 * 3 * 3];
        dot[4 * 4 + 1] = 90;
        let green: Vec<_> = blurred(&dot, 3, 3).into_iter().skip(1).step_by(4).collect();
        assert_eq!(green, [10; 9]);
    }

    #[test]
    fn deflating_makes_the_text_smaller() {
        let deflated = compress_to_vec(&text(100_000), 6);
        assert!((20_000..50_000).contains(&deflated.len()), "{}", deflated.len());
        assert_ne!(deflate(), 0);
    }

    #[test]
    fn random_numbers_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new();
        let numbers: Vec<_> = (0..1000).map(|_| random.below(10)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&0), Some(&9)));
        assert_eq!(random.bytes(11).len(), 11);
    }
}
