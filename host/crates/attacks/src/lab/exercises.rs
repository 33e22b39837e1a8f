//! The exercises of the lesson: an attack, the layers that are taken away, and what comes of it in either pool.

use serde::Serialize;

use sandbox::holes::Layer;

/// One exercise.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Exercise {
    /// The attack, as `host demo` names it.
    pub attack: &'static str,
    /// What the servers under attack lack.
    pub without: &'static [Layer],
    /// What stops it in the thread pool.
    pub thread: &'static str,
    /// What stops it in the process pool.
    pub process: &'static str,
    /// Why it is so.
    pub why: &'static str,
}

/// What can be predicted. `nothing` is where the attack succeeds.
pub const LAYERS: [&str; 14] = [
    "deadline",
    "ceiling",
    "wasm",
    "monitor",
    "quota",
    "log",
    "response check",
    "landlock",
    "seccomp",
    "kernel",
    "resource limit",
    "worker replaced",
    "nothing to find",
    "nothing",
];

/// What can be taken away in the laboratory.
pub const REMOVABLE: [Layer; 5] =
    [Layer::Paths, Layer::Quota, Layer::Deadline, Layer::Landlock, Layer::Seccomp];

const fn both(
    attack: &'static str,
    without: &'static [Layer],
    layer: &'static str,
    why: &'static str,
) -> Exercise {
    Exercise { attack, without, thread: layer, process: layer, why }
}

/// All of them, in the order of the lesson.
pub const EXERCISES: &[Exercise] = &[
    both(
        "loop",
        &[],
        "deadline",
        "The function never returns. Compiled code looks at a clock in every loop, so the call ends at --timeout.",
    ),
    both(
        "grow",
        &[],
        "ceiling",
        "Memory can only be taken by asking the host, which adds up what an instance has.",
    ),
    both(
        "out-of-bounds",
        &[],
        "wasm",
        "An address is an offset into the instance's own memory. Beyond its end the instruction traps.",
    ),
    both(
        "answer-two",
        &[],
        "response check",
        "The handler runs to its end. What it answers is read as one response, and two are none.",
    ),
    both("fill", &[], "quota", "Whatever makes the directory grow reserves room first."),
    Exercise {
        attack: "fill",
        without: &[Layer::Quota],
        thread: "nothing",
        process: "kernel",
        why: "No other layer counts the directory. A worker process has a limit on the length of a file (RLIMIT_FSIZE), \
            which a thread cannot have: many files would get round it.",
    },
    both(
        "sleep-year",
        &[],
        "deadline",
        "The handler does not compute, so no loop looks at a clock. The host call itself sleeps no longer than the deadline.",
    ),
    both(
        "sleep-year",
        &[Layer::Deadline],
        "deadline",
        "The host call sleeps on. Whoever supervises the worker waits no longer: the client is answered, and the worker is given up. \
            It costs a worker each time.",
    ),
    both(
        "symlink-swap",
        &[],
        "monitor",
        "The kernel resolves the path beneath the directory in one step (openat2), so no moment is left to swap a link in.",
    ),
    both(
        "symlink-swap",
        &[Layer::Paths],
        "landlock",
        "The monitor now follows the link. The kernel still lets this worker open nothing but what is in its directory.",
    ),
    both(
        "symlink-swap",
        &[Layer::Paths, Layer::Landlock],
        "nothing",
        "Both layers on the way out are gone: the handler reads the secret beside its directory.",
    ),
    both(
        "native-read-outside",
        &[],
        "landlock",
        "Native code asks no monitor. The kernel asks Landlock.",
    ),
    both(
        "native-read-outside",
        &[Layer::Landlock],
        "nothing",
        "The filter on system calls lets a worker open files, since it has to. Which ones, only Landlock says.",
    ),
    both(
        "native-execute",
        &[],
        "seccomp",
        "A worker never executes a program, so the filter refuses the system call.",
    ),
    both(
        "native-execute",
        &[Layer::Seccomp],
        "landlock",
        "The system call is let through. Landlock grants no file that may be executed.",
    ),
    both(
        "native-send-datagram",
        &[Layer::Seccomp],
        "nothing",
        "Landlock knows files and TCP ports, but no datagrams: two layers overlap, and do not cover the same.",
    ),
    Exercise {
        attack: "native-see-memory",
        without: &[],
        thread: "nothing",
        process: "nothing to find",
        why: "A thread shares its server's memory. A process has its own: here the pools differ.",
    },
    Exercise {
        attack: "native-die",
        without: &[],
        thread: "nothing",
        process: "worker replaced",
        why: "A thread that aborts takes the server with it. A process takes its own request, and is replaced.",
    },
];

impl Exercise {
    /// What stops it in that pool.
    #[must_use]
    pub fn expected(&self, pool: &str) -> &'static str {
        if pool == "thread" { self.thread } else { self.process }
    }

    /// The exercise for an attack without these layers.
    #[must_use]
    pub fn find(attack: &str, without: &[Layer]) -> Option<&'static Self> {
        let has_same = |exercise: &&Self| {
            exercise.without.len() == without.len()
                && exercise.without.iter().all(|layer| without.contains(layer))
        };
        EXERCISES.iter().filter(|exercise| exercise.attack == attack).find(has_same)
    }
}
