//! Real-time scheduling of a thread that must keep its timers.

use std::io;

/// The lowest of the real-time priorities: before every normal thread, after everything else real-time.
const PRIORITY: i32 = 1;

/// Puts the calling thread under SCHED_RR; threads it starts are normal again.
///
/// # Errors
/// It is not permitted: without CAP_SYS_NICE, or in a cgroup without a real-time share.
pub fn realtime_thread() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: thread id 0 is the calling thread; the parameters are ours and outlive the call.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
