//! Short work with many things.
//!
//! The scheduler leaves a thread that is woken, or made, on the processor of whoever woke it, to
//! run when that one sleeps: for work of some milliseconds it comes too late (1 to 5 ms on a
//! machine whose other processor had nothing to do, 0.1 ms when it may not run here). So the
//! threads that help stay, and each time they are kept off the processor of who asks.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use nix::{
    sched::{sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::{Pid, gettid},
};

/// Threads that help, at the most.
const MOST_HELPERS: usize = 3;

/// Pieces that the work of one thread falls into, so that whoever comes late does less.
const PIECES: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that helps.
struct Helper {
    thread: Pid,
    jobs: Sender<Job>,
}

/// Does the same with each, on as many processors as it is worth, and gathers what there is in
/// the order of the things. `few` are done before another thread runs. For threads that serve
/// nobody.
pub fn in_parallel<T, V>(
    few: usize,
    things: Vec<T>,
    each: impl Fn(&T) -> Option<V> + Send + Sync + 'static,
) -> Vec<V>
where
    T: Send + Sync + 'static,
    V: Send + 'static,
{
    let wanted = (things.len() / few).saturating_sub(1);
    let helpers = if wanted == 0 { &[] } else { helpers() };
    let helpers = &helpers[..helpers.len().min(wanted)];
    if helpers.is_empty() {
        return things.iter().filter_map(each).collect();
    }
    let size = things.len().div_ceil(PIECES * (helpers.len() + 1));
    let count = things.len().div_ceil(size);
    let next = AtomicUsize::new(0);
    let take = Arc::new(move || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let piece = things.chunks(size).nth(number)?;
        Some((number, piece.iter().filter_map(&each).collect::<Vec<V>>()))
    });
    let (done, results) = channel();
    for helper in helpers {
        let (take, done) = (Arc::clone(&take), done.clone());
        helper.help(Box::new(move || {
            let taken = || catch_unwind(AssertUnwindSafe(&*take)).transpose();
            // Whoever has asked is gone after a panic of its own.
            let _ = iter::from_fn(taken).try_for_each(|result| done.send(result));
        }));
    }
    let mut pieces: Vec<(usize, Vec<V>)> = iter::from_fn(&*take).collect();
    // A helper that has taken nothing is not waited for.
    while pieces.len() < count {
        match results.recv() {
            Ok(Ok(piece)) => pieces.push(piece),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => break,
        }
    }
    pieces.sort_unstable_by_key(|(number, _)| *number);
    pieces.into_iter().flat_map(|(_, piece)| piece).collect()
}

impl Helper {
    fn start() -> Option<Self> {
        let (jobs, queue) = channel::<Job>();
        let (tell, told) = channel();
        let run = move || {
            // Whoever starts it waits for this.
            let _ = tell.send(gettid());
            queue.into_iter().for_each(|job| job());
        };
        thread::Builder::new().name("readings".to_owned()).spawn(run).ok()?;
        Some(Self { thread: told.recv().ok()?, jobs })
    }

    /// Lets the thread do the work on another processor than this.
    fn help(&self, job: Job) {
        let keep_off = || -> nix::Result<()> {
            let mut allowed = sched_getaffinity(Pid::from_raw(0))?;
            allowed.unset(sched_getcpu()?)?;
            sched_setaffinity(self.thread, &allowed)
        };
        // It helps less where it may not be kept off, and not at all where there is no other
        // processor.
        if keep_off() != Err(nix::Error::EINVAL) {
            // The thread lives as long as the daemon.
            let _ = self.jobs.send(job);
        }
    }
}

/// The threads, which the first who needs them starts.
fn helpers() -> &'static [Helper] {
    static HELPERS: OnceLock<Vec<Helper>> = OnceLock::new();
    HELPERS.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        (1..processors).take(MOST_HELPERS).map_while(|_| Helper::start()).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::{panic::catch_unwind, thread};

    use super::in_parallel;

    #[test]
    fn all_that_there_is_comes_back_in_order() {
        for count in [0, 1, 31, 64, 1000] {
            let things: Vec<usize> = (0..count).collect();
            let odd = in_parallel(32, things, |thing| (thing % 2 == 1).then_some(*thing));
            assert!(odd.iter().copied().eq((0..count).filter(|thing| thing % 2 == 1)), "{count}");
        }
    }

    #[test]
    fn many_who_ask_at_once_get_all_of_theirs() {
        let ask = |seed: usize| {
            let numbers = in_parallel(8, (0..200).collect(), move |thing| Some(thing * seed));
            assert!(numbers.into_iter().eq((0..200).map(|thing| thing * seed)), "{seed}");
        };
        thread::scope(|scope| (1..9).for_each(|seed| drop(scope.spawn(move || ask(seed)))));
    }

    #[test]
    fn a_panic_reaches_whoever_has_asked_and_helpers_go_on() {
        for bad in [0, 63] {
            let fail = move |thing: &usize| {
                assert_ne!(*thing, bad);
                Some(*thing)
            };
            assert!(catch_unwind(|| in_parallel(8, (0..64).collect(), fail)).is_err(), "{bad}");
            assert_eq!(in_parallel(8, (0..64).collect(), |_: &usize| Some(())).len(), 64);
        }
    }
}
