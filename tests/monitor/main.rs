//! Real monitors, and what they make of the daemon, of strangers, and of what runs in a pod.

mod ends;
mod execs;
mod faults;
mod garbage;
mod messages;
mod mounts;
mod pod;
mod terminals;

/// Says why a test does not run.
#[macro_export]
macro_rules! requires_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: {} needs root", module_path!());
            return;
        }
    };
}
