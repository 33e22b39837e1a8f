//! The scheduling policy of workers.

/// Makes the calling thread one that the kernel takes for a batch job (`SCHED_BATCH`,
/// `sched(7)`): when it is woken, whoever woke it is not made to stop for it. So the I/O thread
/// goes on to hand out what else has come, and the worker then finds several requests. Its
/// share of the processors stays the same.
#[expect(unsafe_code, reason = "no safe interface sets a scheduling policy")]
pub(crate) fn enter() {
    // SAFETY: a structure of integers, for which zero is a value.
    let priority: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: it changes the calling thread alone, and only reads what it is given. A kernel
    // that refuses leaves the usual policy in place, with which all of it works too.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
}
