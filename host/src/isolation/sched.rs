//! The kernel's scheduling of workers.

use std::time::Duration;

use ablation::Trick;

/// Makes the calling thread one that the kernel takes for a batch job (`SCHED_BATCH`,
/// `sched(7)`): when it is woken, whoever woke it is not made to stop for it. So the I/O thread
/// goes on to hand out what else has come, and the worker then finds several requests. Its
/// share of the processors stays the same.
#[expect(unsafe_code, reason = "no safe interface sets a scheduling policy")]
pub(crate) fn set_batch_policy() {
    if Trick::BatchPolicy.is_left_out() {
        return;
    }
    // SAFETY: a structure of integers, for which zero is a value.
    let priority: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: it changes the calling thread alone, and only reads what it is given. A kernel
    // that refuses leaves the usual policy in place, with which all of it works too.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
}

/// The processor time that a process has taken since it began; `None` when it is gone.
#[expect(unsafe_code, reason = "no safe interface has the clocks of others")]
pub(crate) fn processor_time(process: i32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: they write to what they are given, and to nothing else.
    let result = unsafe {
        match libc::clock_getcpuclockid(process, &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            error => error,
        }
    };
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    (result == 0).then(|| Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computes_takes_processor_time_and_what_is_gone_has_none() {
        let own = rustix::process::getpid().as_raw_pid();
        let before = processor_time(own).expect("it is here");
        while processor_time(own).expect("it is here") < before + Duration::from_millis(5) {}
        assert_eq!(processor_time(i32::MAX >> 3), None);
    }
}
