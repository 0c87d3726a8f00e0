//! Random numbers for identifiers and sampling: quick, different in each thread and run, and no secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// The next number of this thread.
#[inline]
pub(super) fn next() -> u64 {
    STATE.with(|state| {
        let before = match state.get() {
            0 => RandomState::new().hash_one(0),
            before => before,
        };
        // SplitMix64: a step of fixed size, then every bit stirred into every other.
        let now = before.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(now);
        let mixed = (now ^ (now >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn numbers_do_not_come_twice_in_one_thread_or_in_two() {
        let numbers = || (0..10_000).map(|_| super::next()).collect::<Vec<_>>();
        let other = std::thread::spawn(numbers).join().unwrap();
        let all: HashSet<u64> = numbers().into_iter().chain(other).collect();
        assert_eq!(all.len(), 20_000);
        let ones: u32 = all.iter().map(|number| number.count_ones()).sum();
        assert!((600_000..680_000).contains(&ones), "half of all bits: {ones}");
    }
}
