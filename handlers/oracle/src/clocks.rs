//! Calls of `wasi:io/poll`, `wasi:clocks`, `wasi:random` and `wasi:cli`.

use wasip2::cli::{environment, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::io::poll;
use wasip2::random::{insecure, insecure_seed, random};

use super::operation::{Operation, Outcome, Pollable};
use super::{Open, nth};

impl Open {
    /// What is ready may take some time to be so: it is said only what must be ready in the end.
    pub(super) fn poll(&self, pollables: &[Pollable]) -> Outcome {
        let mut subscribed = Vec::new();
        for pollable in pollables {
            subscribed.push(match pollable {
                Pollable::Input(stream) => nth(&self.inputs, *stream)?.subscribe(),
                Pollable::Output(stream) => nth(&self.outputs, *stream)?.subscribe(),
                Pollable::Duration(time) => {
                    monotonic_clock::subscribe_duration(u64::from(*time) * 1000)
                }
                Pollable::Past => monotonic_clock::subscribe_instant(0),
                Pollable::Never => monotonic_clock::subscribe_duration(u64::MAX),
            });
        }
        let never = |index: usize| pollables[index] == Pollable::Never;
        let all: Vec<&poll::Pollable> = subscribed.iter().collect();
        if !all.is_empty() && (0..all.len()).all(never) {
            return Err("(never ready)".into());
        }
        let ready = poll::poll(&all);
        let some = !ready.is_empty();
        let mut once = ready.clone();
        once.sort_unstable();
        once.dedup();
        let once = once.len() == ready.len();
        let none_early = !ready.iter().any(|index| never(*index as usize));
        let others = subscribed.iter().enumerate().filter(|(index, _)| !never(*index));
        let all_in_the_end = others.map(|(_, pollable)| {
            pollable.block();
            pollable.ready()
        });
        let all_in_the_end = all_in_the_end.fold(true, |all, ready| all && ready);
        let never_ready = subscribed.iter().enumerate().any(|(index, p)| never(index) && p.ready());
        Ok(format!(
            "some: {some}, once: {once}, none early: {none_early}, all in the end: \
             {all_in_the_end}, never: {never_ready}"
        ))
    }
}

pub(super) fn surroundings(operation: Operation) -> Outcome {
    use Operation::*;
    Ok(match operation {
        Clock { wait } => {
            let before = monotonic_clock::now();
            let wait = u64::from(wait) * 1000;
            monotonic_clock::subscribe_duration(wait).block();
            let after = monotonic_clock::now();
            let until = monotonic_clock::subscribe_instant(after + wait);
            until.block();
            let later = monotonic_clock::now();
            format!("{} {}", after >= before + wait, later >= after + wait)
        }
        Resolutions => {
            let wall = wall_clock::resolution();
            format!("{} {wall:?}", monotonic_clock::resolution())
        }
        Time => {
            let now = wall_clock::now();
            // All of the years 2020 to 2100.
            let now_is_now = (1_577_836_800..4_102_444_800).contains(&now.seconds);
            format!("{now_is_now} {}", now.nanoseconds < 1_000_000_000)
        }
        Random { length, insecure: true } => {
            said_of(insecure::get_insecure_random_bytes(length.into()))
        }
        Random { length, insecure: false } => said_of(random::get_random_bytes(length.into())),
        RandomNumbers => {
            let seed = insecure_seed::insecure_seed();
            let is_kept = insecure_seed::insecure_seed() == seed;
            let numbers = [random::get_random_u64(), insecure::get_insecure_random_u64()];
            format!("{} {} {is_kept}", numbers[0] != numbers[1], seed.0 != seed.1)
        }
        Environment => {
            let mut variables = environment::get_environment();
            variables.sort();
            format!("{variables:?} {:?}", environment::initial_cwd())
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

/// So many, and whether they differ from each other.
fn said_of(bytes: Vec<u8>) -> String {
    let differ = bytes.len() < 16 || bytes.iter().any(|byte| *byte != bytes[0]);
    format!("{} {differ}", bytes.len())
}
