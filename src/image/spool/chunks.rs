//! Which parts of a blob are there: arithmetic alone, no files.

use std::ops::Range;

/// What is recorded as there or missing, in bytes: a killed daemon loses less than this of
/// each connection.
pub(super) const CHUNK: u64 = 1 << 20;

/// The chunks of one blob; all but the last have the same length.
#[derive(Debug)]
pub(super) struct Chunks {
    size: u64,
    complete: Vec<bool>,
    /// Everything before this is complete, or somebody fetches it.
    claimed: usize,
}

impl Chunks {
    /// A blob of `size` bytes, of which `complete` says what is there.
    pub(super) fn new(size: u64, complete: impl IntoIterator<Item = bool>) -> Self {
        let count = size.div_ceil(CHUNK) as usize;
        let complete = complete.into_iter().chain(std::iter::repeat(false)).take(count).collect();
        Self { size, complete, claimed: 0 }
    }

    /// The first missing range that nobody fetches, at most `limit` bytes in whole chunks.
    pub(super) fn claim(&mut self, limit: u64) -> Option<Range<u64>> {
        let missing = |index: &usize| !self.complete[*index];
        let first = (self.claimed..self.complete.len()).find(missing)?;
        let most = limit.div_ceil(CHUNK).max(1) as usize;
        let run = (first..self.complete.len()).take(most).take_while(missing).count();
        self.claimed = first + run;
        Some(self.bytes(first).start..self.bytes(self.claimed - 1).end)
    }

    /// Gives back every claim; the answer begins at the first missing chunk.
    pub(super) fn claim_rest(&mut self) -> Option<Range<u64>> {
        self.claimed = self.complete.len();
        let first = self.complete.iter().position(|complete| !complete)?;
        Some(self.bytes(first).start..self.size)
    }

    /// The chunks that are whole when all bytes of the range are there. The range starts with
    /// a chunk.
    pub(super) fn whole(&self, range: Range<u64>) -> Range<usize> {
        let first = (range.start / CHUNK) as usize;
        let whole = (first..self.complete.len())
            .take_while(|index| self.bytes(*index).end <= range.end)
            .count();
        first..first + whole
    }

    /// Notes that these chunks are there.
    pub(super) fn complete(&mut self, chunks: Range<usize>) {
        self.complete[chunks].fill(true);
    }

    /// How many bytes from `offset` on are there without a gap.
    pub(super) fn available(&self, offset: u64) -> u64 {
        let first = (offset / CHUNK) as usize;
        let end = (first..self.complete.len()).find(|index| !self.complete[*index]);
        end.map_or(self.size, |end| self.bytes(end).start).saturating_sub(offset)
    }

    /// Bytes of all chunks that are there.
    pub(super) fn total(&self) -> u64 {
        let lengths = self.complete.iter().enumerate().filter(|(_, complete)| **complete);
        lengths.map(|(index, _)| self.bytes(index)).map(|range| range.end - range.start).sum()
    }

    fn bytes(&self, index: usize) -> Range<u64> {
        let start = index as u64 * CHUNK;
        start..(start + CHUNK).min(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_fill_the_gaps_and_meet_nowhere() {
        let mut chunks = Chunks::new(5 * CHUNK + 7, [true, false, false, true]);
        assert_eq!(chunks.claim(CHUNK), Some(CHUNK..2 * CHUNK));
        assert_eq!(chunks.claim(9 * CHUNK), Some(2 * CHUNK..3 * CHUNK), "ends at what is there");
        assert_eq!(chunks.claim(9 * CHUNK), Some(4 * CHUNK..5 * CHUNK + 7));
        assert_eq!(chunks.claim(CHUNK), None);
        assert_eq!(chunks.claim_rest(), Some(CHUNK..5 * CHUNK + 7));
    }

    fn complete(chunks: &mut Chunks, range: Range<u64>) -> Range<usize> {
        let whole = chunks.whole(range);
        chunks.complete(whole.clone());
        whole
    }

    #[test]
    fn only_whole_chunks_are_there() {
        let mut chunks = Chunks::new(2 * CHUNK + 7, []);
        assert_eq!(complete(&mut chunks, 0..CHUNK - 1), 0..0);
        assert_eq!(chunks.available(0), 0);
        assert_eq!(complete(&mut chunks, CHUNK..2 * CHUNK + 7), 1..3);
        assert_eq!((chunks.available(0), chunks.available(CHUNK + 1)), (0, CHUNK + 6));
        assert_eq!(complete(&mut chunks, 0..CHUNK), 0..1);
        assert_eq!((chunks.available(0), chunks.total()), (2 * CHUNK + 7, 2 * CHUNK + 7));
        assert_eq!(chunks.available(2 * CHUNK + 7), 0);
    }
}
