//! What a process has from the one that started it, and keeps through `execve(2)`.

use std::ptr;

/// `MPOL_DEFAULT` of set_mempolicy(2).
const MPOL_DEFAULT: libc::c_int = 0;
/// `IOPRIO_WHO_PROCESS` of ioprio_set(2).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// No class and no level of its own: what follows from the nice value.
const IOPRIO_NONE: libc::c_int = 0;
/// The kernel's default, in nanoseconds.
const TIMER_SLACK: libc::c_ulong = 50_000;
/// `PR_SET_MEMORY_MERGE`, since Linux 6.4.
const PR_SET_MEMORY_MERGE: libc::c_int = 67;
/// More processors than any kernel is built for.
const PROCESSORS: usize = 8192;

/// Gives the calling process what one has that nobody has configured: all processors that its
/// cgroup has, the ordinary scheduling class, nice value, I/O priority, memory policy, timers,
/// and personality. Somebody has configured the daemon (`CPUAffinity=`, `Nice=` and the like
/// of a unit), which is nothing to what it starts.
///
/// What may not be changed stays: not even root may do all of it everywhere, and no container
/// is to fail for its daemon's nice value.
pub fn reset() {
    scheduling();
    let ioprio = (IOPRIO_WHO_PROCESS, 0, IOPRIO_NONE);
    // SAFETY: the calls take numbers and null pointers alone, and change the caller only.
    unsafe {
        libc::syscall(libc::SYS_ioprio_set, ioprio.0, ioprio.1, ioprio.2);
        libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, ptr::null::<u8>(), 0);
        libc::personality(0);
    }
    for (option, value, more) in [
        (libc::PR_SET_TIMERSLACK, TIMER_SLACK, 0),
        (libc::PR_SET_SECUREBITS, 0, 0),
        (libc::PR_SET_THP_DISABLE, 0, 0),
        (libc::PR_MCE_KILL, libc::PR_MCE_KILL_CLEAR as libc::c_ulong, 0),
        (PR_SET_MEMORY_MERGE, 0, 0),
    ] {
        // SAFETY: none of these options takes a pointer.
        unsafe {
            libc::prctl(
                option,
                value,
                more as libc::c_ulong,
                0 as libc::c_ulong,
                0 as libc::c_ulong,
            )
        };
    }
}

fn scheduling() {
    let all = [u64::MAX; PROCESSORS / 64];
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the mask has the size that is passed, and both outlive the calls. The kernel
    // takes those processors of the mask that there are, and that the cgroup has.
    unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr());
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const parameters);
        libc::setpriority(libc::PRIO_PROCESS as _, 0, 0);
    }
}
