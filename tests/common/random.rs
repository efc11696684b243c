//! Numbers and inputs that come again with their seed.

/// A small generator of numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    /// The sequence of a seed, which must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of the values.
    pub fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }

    /// One of the samples with some changes: other bytes, pieces that are gone, doubled or
    /// exchanged.
    pub fn mutation(&mut self, samples: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.pick(samples).to_vec();
        for _ in 0..1 + self.below(6) {
            let length = bytes.len() as u64;
            let at = self.below(length + 1) as usize;
            let end = (at + 1 + self.below(16) as usize).min(bytes.len());
            match self.below(6) {
                0 | 1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                3 => drop(bytes.drain(at.min(end)..end)),
                4 => {
                    let piece = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let other = self.pick(samples);
                    let from = self.below(other.len() as u64) as usize;
                    let to = (from + 24).min(other.len());
                    bytes.splice(at.min(end)..end, other[from..to].iter().copied());
                }
            }
        }
        bytes
    }
}
