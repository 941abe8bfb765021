//! Packs inodes with their attributes and tails into the blocks of the metadata area.

use erofs_format::{BLOCK, SLOT};

/// Blocks with room that are tried before a new one is begun.
const OPEN_BLOCKS: usize = 64;

/// Decides where in the metadata area each inode starts.
pub(crate) struct Packer {
    blocks: usize,
    /// Block number and bytes used of blocks that have room.
    open: Vec<(usize, usize)>,
}

impl Packer {
    /// An area in which the first two slots stay unused: programs take inode number 0 for no file.
    pub(crate) fn new() -> Self {
        Self { blocks: 1, open: vec![(0, 2 * SLOT)] }
    }

    /// Takes `len` bytes, which lie in one block if they can, and returns their offset, a multiple of [`SLOT`].
    pub(crate) fn place(&mut self, len: usize) -> usize {
        let len = len.next_multiple_of(SLOT);
        let fits = |(_, used): &&mut (usize, usize)| used.saturating_add(len) <= BLOCK;
        if let Some((block, used)) = self.open.iter_mut().filter(fits).max_by_key(|(_, used)| *used) {
            let offset = *block * BLOCK + *used;
            *used += len;
            if *used == BLOCK {
                self.open.retain(|(_, used)| *used < BLOCK);
            }
            return offset;
        }
        let first = self.blocks;
        self.blocks += len.div_ceil(BLOCK);
        let used = len % BLOCK;
        if used != 0 {
            self.open.push((self.blocks - 1, used));
        }
        if self.open.len() > OPEN_BLOCKS
            && let Some(fullest) = (0..self.open.len()).max_by_key(|at| self.open[*at].1)
        {
            self.open.swap_remove(fullest);
        }
        first * BLOCK
    }

    /// Bytes in the area.
    pub(crate) fn len(&self) -> usize {
        self.blocks * BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_what_fits_a_block_crosses_none() {
        let mut packer = Packer::new();
        let mut taken = vec![(0, 2 * SLOT)];
        for n in 0..5000usize {
            let len = 32 + n * 7919 % 5000;
            let at = packer.place(len);
            assert_eq!(at % SLOT, 0);
            if len <= BLOCK {
                assert!(at % BLOCK + len <= BLOCK);
            }
            taken.push((at, at + len));
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        assert!(taken.last().unwrap().1 <= packer.len());
        let used: usize = taken.iter().map(|(start, end)| end - start).sum();
        assert!(used * 100 / packer.len() >= 85, "{used} of {}", packer.len());
    }
}
