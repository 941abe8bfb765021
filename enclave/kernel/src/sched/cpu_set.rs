//! Sets of processors.

/// Words of a [`CpuSet`].
pub(super) const WORDS: usize = 16;

/// A set of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// Bytes of it.
    pub(crate) const LEN: usize = WORDS * 8;

    /// The processors below a number.
    pub(crate) fn first(cpus: u32) -> Self {
        let mut words = [0u64; WORDS];
        for (word, start) in words.iter_mut().zip((0u32..).step_by(64)) {
            *word = match cpus.saturating_sub(start) {
                0 => 0,
                64.. => u64::MAX,
                some => (1 << some) - 1,
            };
        }
        Self(words)
    }

    /// The set that bytes from a program stand for; processors beyond the largest set are left out.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = [0u64; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            for (to, &from) in whole.iter_mut().zip(chunk) {
                *to = from;
            }
            *word = u64::from_le_bytes(whole);
        }
        Self(words)
    }

    /// The first `len` bytes, a multiple of eight.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().flat_map(|word| word.to_le_bytes())
    }

    /// What both have.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }

    /// Whether processor `cpu` is in it.
    pub(crate) fn has(&self, cpu: u32) -> bool {
        let word = usize::try_from(cpu / 64).ok().and_then(|word| self.0.get(word));
        word.is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// The lowest processor in it.
    pub(crate) fn lowest(&self) -> Option<u32> {
        let (start, word) = (0u32..).step_by(64).zip(self.0).find(|&(_, word)| word != 0)?;
        Some(start + word.trailing_zeros())
    }

    /// Its words, the lowest first.
    pub(crate) const fn words(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_the_first_processors_has_as_many() {
        for cpus in [1, 63, 64, 65, 200] {
            let count: u32 = CpuSet::first(cpus).0.iter().map(|word| word.count_ones()).sum();
            assert_eq!(count, cpus);
        }
        assert_eq!(CpuSet::first(3).bytes().next(), Some(7));
    }

    #[test]
    fn bytes_become_the_set_that_they_came_from() {
        let set = CpuSet::first(77);
        assert_eq!(CpuSet::from_bytes(&set.bytes().collect::<Vec<_>>()), set);
        assert_eq!(CpuSet::from_bytes(&[5]).0[0], 5);
        assert_eq!(CpuSet::from_bytes(&[0xff; 1000]).0, [u64::MAX; WORDS]);
    }

    #[test]
    fn the_lowest_member_is_found_in_any_word() {
        assert_eq!(CpuSet::from_bytes(&[0; 8]).lowest(), None);
        let mut bytes = [0; 16];
        bytes[9] = 4;
        let set = CpuSet::from_bytes(&bytes);
        assert_eq!(set.lowest(), Some(74));
        assert!(set.has(74) && !set.has(73) && !set.has(100_000));
    }
}
