//! Short work with many things.

use std::{panic::resume_unwind, sync::OnceLock, thread};

const MOST_THREADS: usize = 4;

/// Does the same with each, on as many processors as it is worth, and gathers what there is in
/// the order of the things. `few` are done in the millisecond that it takes until another
/// thread runs. For threads that serve nobody.
pub fn in_parallel<T: Sync, V: Send>(
    few: usize,
    things: &[T],
    each: impl Fn(&T) -> Option<V> + Sync,
) -> Vec<V> {
    // Asking for it reads a dozen files.
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let processors = *PROCESSORS.get_or_init(processors);
    let threads = processors.min(MOST_THREADS).min(things.len() / few);
    if threads < 2 {
        return things.iter().filter_map(each).collect();
    }
    let (each, share) = (&each, things.len().div_ceil(threads));
    let do_share = move |things: &[T]| things.iter().filter_map(each).collect::<Vec<V>>();
    let (own, others) = things.split_at(share);
    thread::scope(|scope| {
        let others: Vec<_> =
            others.chunks(share).map(|things| scope.spawn(move || do_share(things))).collect();
        let mut done = do_share(own);
        for share in others {
            match share.join() {
                Ok(more) => done.extend(more),
                Err(panic) => resume_unwind(panic),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::in_parallel;

    #[test]
    fn all_that_there_is_comes_back_in_order() {
        for count in [0, 1, 31, 64, 1000] {
            let things: Vec<usize> = (0..count).collect();
            let odd = in_parallel(32, &things, |thing| (thing % 2 == 1).then_some(*thing));
            assert!(odd.iter().copied().eq((0..count).filter(|thing| thing % 2 == 1)), "{count}");
        }
    }
}
