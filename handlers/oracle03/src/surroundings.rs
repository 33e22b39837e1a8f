//! Calls of `wasi:clocks`, `wasi:random` and `wasi:cli`.

use wasip3::cli::{environment, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip3::clocks::{monotonic_clock, system_clock};
use wasip3::random::{insecure, insecure_seed, random};

use super::operation::{Operation, Outcome};

pub(super) async fn surroundings(operation: Operation) -> Outcome {
    use Operation::*;
    Ok(match operation {
        Clock { wait } => {
            let before = monotonic_clock::now();
            let wait = u64::from(wait) * 1000;
            monotonic_clock::wait_for(wait).await;
            let after = monotonic_clock::now();
            monotonic_clock::wait_until(after + wait).await;
            let later = monotonic_clock::now();
            monotonic_clock::wait_until(0).await;
            format!("{} {}", after >= before + wait, later >= after + wait)
        }
        Resolutions => {
            format!("{} {}", monotonic_clock::get_resolution(), system_clock::get_resolution())
        }
        Time => {
            let now = system_clock::now();
            // All of the years 2020 to 2100.
            let now_is_now = (1_577_836_800..4_102_444_800).contains(&now.seconds);
            format!("{now_is_now} {}", now.nanoseconds < 1_000_000_000)
        }
        Random { length, insecure: true } => {
            said_of(length, |left| insecure::get_insecure_random_bytes(left))
        }
        Random { length, insecure: false } => said_of(length, random::get_random_bytes),
        RandomNumbers => {
            let seed = insecure_seed::get_insecure_seed();
            let is_kept = insecure_seed::get_insecure_seed() == seed;
            let numbers = [random::get_random_u64(), insecure::get_insecure_random_u64()];
            format!("{} {} {is_kept}", numbers[0] != numbers[1], seed.0 != seed.1)
        }
        Environment => {
            let mut variables = environment::get_environment();
            variables.sort();
            let arguments = environment::get_arguments();
            format!("{variables:?} {arguments:?} {:?}", environment::get_initial_cwd())
        }
        Terminals => format!(
            "{} {} {}",
            terminal_stdin::get_terminal_stdin().is_some(),
            terminal_stdout::get_terminal_stdout().is_some(),
            terminal_stderr::get_terminal_stderr().is_some()
        ),
        _ => return Err("(no such call)".into()),
    })
}

/// So many, got in as many calls as it takes, and whether they differ from each other.
fn said_of(length: u16, more: impl Fn(u64) -> Vec<u8>) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < usize::from(length) {
        let left = usize::from(length) - bytes.len();
        let got = more(left as u64);
        assert!(!got.is_empty() && got.len() <= left);
        bytes.extend(got);
    }
    let differ = bytes.len() < 16 || bytes.iter().any(|byte| *byte != bytes[0]);
    format!("{} {differ}", bytes.len())
}
