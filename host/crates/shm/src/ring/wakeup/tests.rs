//! A model check: a worker and its parent put in, sleep and wake, in every order that the checker
//! comes to. A wake-up that is lost leaves both asleep, which it sees.

use std::collections::VecDeque;

use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use super::*;

/// A word that the checker watches.
#[derive(Debug, Default)]
struct Watched(AtomicU64);

impl Word for Watched {
    fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    fn exchange(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn swap(&self, value: u64) -> u64 {
        self.0.swap(value, Ordering::SeqCst)
    }
}

/// A futex as the kernel has it: it compares and goes to sleep as one step, and wakes only who
/// sleeps.
#[derive(Debug, Default)]
struct Sleeper {
    number: Mutex<u32>,
    woken: Condvar,
}

impl Futex for Sleeper {
    fn load(&self) -> u32 {
        *self.number.lock().expect("not poisoned")
    }

    fn count_up(&self) {
        let mut number = self.number.lock().expect("not poisoned");
        *number = number.wrapping_add(1);
    }

    fn wait(&self, expected: u32) {
        let number = self.number.lock().expect("not poisoned");
        if *number == expected {
            drop(self.woken.wait(number).expect("not poisoned"));
        }
    }

    fn wake(&self) {
        let _number = self.number.lock().expect("not poisoned");
        self.woken.notify_one();
    }
}

/// An event descriptor, which wakes by an edge and remembers it.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<u64>,
    readable: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().expect("not poisoned") += 1;
        self.readable.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().expect("not poisoned");
        while *rung == 0 {
            rung = self.readable.wait(rung).expect("not poisoned");
        }
        *rung = 0;
    }
}

/// Requests that a worker may be sent ahead.
const SLOTS: usize = 2;
const REQUESTS: u64 = 5;

/// What both sides share.
#[derive(Debug, Default)]
struct Shared {
    doorbell: Sleeper,
    worker_sleeps: Watched,
    parent_sleeps: Watched,
    slots: [[Watched; 2]; SLOTS],
    bell: Bell,
}

impl Shared {
    fn wakeup(&self) -> Wakeup<'_, Sleeper, Watched> {
        Wakeup {
            doorbell: &self.doorbell,
            worker_sleeps: &self.worker_sleeps,
            parent_sleeps: &self.parent_sleeps,
        }
    }

    fn handover(&self, number: u64) -> Handover<'_, Watched> {
        let [request, answered] = &self.slots[(number % SLOTS as u64) as usize];
        Handover { number, request, answered }
    }
}

/// Answers all requests, and rings for each or, while more are there, for several at once.
fn work(shared: &Shared) {
    let mut unheard = 0;
    for number in 0..REQUESTS {
        shared.wakeup().wait_for(&shared.handover(number), || {});
        shared.handover(number).reply();
        unheard += 1;
        let more = number + 1 < REQUESTS && shared.handover(number + 1).waits();
        if more && unheard < SLOTS && thread_rng().gen_bool(0.5) {
            continue;
        }
        unheard = 0;
        if shared.wakeup().parent_is_to_wake() {
            shared.bell.ring();
        }
    }
}

/// Puts in as many as there are slots, takes answers, and sleeps when there are none.
fn ask(shared: &Shared) {
    let (mut next, mut owed) = (0, VecDeque::new());
    // How often the worker may still ring.
    let mut rings: u64 = 0;
    while next < REQUESTS || !owed.is_empty() {
        while next < REQUESTS && owed.len() < SLOTS {
            shared.handover(next).put();
            shared.wakeup().wake_worker();
            owed.push_back(next);
            next += 1;
        }
        let has_answer = |owed: &VecDeque<u64>| shared.handover(owed[0]).has_answer();
        if has_answer(&owed) {
            owed.pop_front();
            continue;
        }
        if shared.wakeup().parent_sleeps() {
            rings += 1;
        }
        if !has_answer(&owed) {
            shared.bell.wait();
            rings = rings.checked_sub(1).expect("it rings only for who sleeps");
        }
    }
}

fn scenario() {
    let shared = Arc::new(Shared::default());
    let worker = thread::spawn({
        let shared = Arc::clone(&shared);
        move || work(&shared)
    });
    ask(&shared);
    worker.join().expect("no panic");
}

#[test]
fn no_wake_up_is_lost() {
    shuttle::check_random(scenario, 5000);
    shuttle::check_pct(scenario, 5000, 3);
}
