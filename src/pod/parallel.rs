//! Short work with many things.

/// So many are done while a thread is made.
const FEW: usize = 32;

const MOST_THREADS: usize = 4;

/// Does the same with each, on as many processors as it is worth, and gathers what there is in
/// the order of the things. For threads that serve nobody.
pub fn in_parallel<T: Sync, V: Send>(
    things: &[T],
    each: impl Fn(&T) -> Option<V> + Sync,
) -> Vec<V> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(MOST_THREADS).min(things.len() / FEW);
    if threads < 2 {
        return things.iter().filter_map(each).collect();
    }
    let (each, share) = (&each, things.len().div_ceil(threads));
    std::thread::scope(|scope| {
        let all: Vec<_> = things
            .chunks(share)
            .map(|things| scope.spawn(move || things.iter().filter_map(each).collect::<Vec<V>>()))
            .collect();
        // One that panics has nothing to tell; the others have.
        all.into_iter().filter_map(|share| share.join().ok()).flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::in_parallel;

    #[test]
    fn all_that_there_is_comes_back_in_order() {
        for count in [0, 1, 31, 64, 1000] {
            let things: Vec<usize> = (0..count).collect();
            let odd = in_parallel(&things, |thing| (thing % 2 == 1).then_some(*thing));
            assert!(odd.iter().copied().eq((0..count).filter(|thing| thing % 2 == 1)), "{count}");
        }
    }
}
