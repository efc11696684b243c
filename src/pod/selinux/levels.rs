//! Pairs of categories, one for each pod of the node: what keeps pods of one type apart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Two different categories, the lower one first.
type Pair = (u32, u32);

/// Levels that are in use.
#[derive(Debug, Clone)]
pub(in crate::pod) struct Levels {
    /// Categories are below this number.
    range: u32,
    // Held for one look-up. A pair may have been given to several by hand.
    used: Arc<Mutex<HashMap<Pair, usize>>>,
}

/// The level of a pod, kept from others as long as this lives.
#[derive(Debug)]
pub(in crate::pod) struct Lease {
    pair: Pair,
    levels: Levels,
}

impl Levels {
    /// Levels with categories below `range`.
    pub(in crate::pod) fn new(range: u32) -> Self {
        Self { range, used: Arc::default() }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<Pair, usize>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A level that nobody has, with a sensitivity such as `s0`; none where all are in use.
    /// `random` decides which one.
    pub(in crate::pod) fn allocate(
        &self,
        sensitivity: &str,
        random: u64,
    ) -> Option<(String, Lease)> {
        let all = pairs(self.range);
        let mut used = self.used();
        let first = random.checked_rem(all)?;
        // Some are in use, and a node has few pods: the search is short.
        let free = (0..all)
            .map(|step| pair((first + step) % all))
            .find(|pair| !used.contains_key(pair))?;
        used.insert(free, 1);
        drop(used);
        let level = format!("{sensitivity}:c{},c{}", free.0, free.1);
        Some((level, Lease { pair: free, levels: self.clone() }))
    }

    /// Keeps a level that is in use from others; none for one that `allocate` would not give.
    pub(in crate::pod) fn keep(&self, level: &str) -> Option<Lease> {
        let (_, categories) = level.split_once(':')?;
        let (low, high) = categories.split_once(',')?;
        let number = |text: &str| text.strip_prefix('c')?.parse::<u32>().ok();
        let (low, high) = (number(low)?, number(high)?);
        if low == high {
            return None;
        }
        let pair = (low.min(high), low.max(high));
        *self.used().entry(pair).or_default() += 1;
        Some(Lease { pair, levels: self.clone() })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut used = self.levels.used();
        if let Some(count) = used.get_mut(&self.pair) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.pair);
            }
        }
    }
}

/// How many pairs there are.
fn pairs(range: u32) -> u64 {
    let range = u64::from(range);
    range * range.saturating_sub(1) / 2
}

/// The pair of a number: (0, 1), (0, 2), (1, 2), (0, 3) and so on.
fn pair(number: u64) -> Pair {
    // The largest `high` with `pairs(high) <= number`.
    let mut high = (number * 2).isqrt().max(1);
    while high * (high + 1) / 2 <= number {
        high += 1;
    }
    while high * (high - 1) / 2 > number {
        high -= 1;
    }
    ((number - high * (high - 1) / 2) as u32, high as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Levels, pair, pairs};

    #[test]
    fn every_number_has_a_pair_of_its_own() {
        let all: BTreeSet<_> = (0..pairs(1024)).map(pair).collect();
        assert_eq!(all.len() as u64, pairs(1024));
        assert!(all.iter().all(|(low, high)| low < high && *high < 1024));
    }

    #[test]
    fn no_two_pods_have_one_level_until_it_is_given_back() {
        let levels = Levels::new(3);
        let mut leases: Vec<_> = (0..3).map(|_| levels.allocate("s0", 7).unwrap()).collect();
        let names: BTreeSet<_> = leases.iter().map(|(level, _)| level.clone()).collect();
        let expected = ["s0:c0,c1", "s0:c0,c2", "s0:c1,c2"];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert!(levels.allocate("s0", 1).is_none());
        let (level, _) = leases.remove(1);
        assert_eq!(levels.allocate("s0", 0).unwrap().0, level);
    }

    #[test]
    fn levels_of_records_are_kept() {
        let levels = Levels::new(3);
        let (first, again) = (levels.keep("s0:c2,c0").unwrap(), levels.keep("s0:c0,c2"));
        let (second, third) = (levels.keep("s0:c0,c1"), levels.keep("s0:c1,c2"));
        assert!(levels.allocate("s0", 0).is_none());
        drop(first);
        assert!(levels.allocate("s0", 0).is_none(), "somebody else has it as well");
        drop(again);
        assert_eq!(levels.allocate("s0", 0).unwrap().0, "s0:c0,c2");
        drop((second, third));
        for level in ["s0", "s0:c1", "s0-s0:c0.c1023", "s0:c1,c1", "s0:c1,x", ""] {
            assert!(levels.keep(level).is_none(), "{level}");
        }
        assert!(Levels::new(1).allocate("s0", 5).is_none());
    }
}
