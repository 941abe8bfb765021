//! Runs of pages in the order of EADD.

use sgx_arch::{PAGE_SIZE, Secinfo};
use std::borrow::Cow;

static ZERO_PAGE: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// What some pages hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes, a multiple of the page size.
    Bytes(Cow<'a, [u8]>),
    /// This many zero bytes, a multiple of the page size.
    Zeros(u64),
}

impl Content<'_> {
    /// Bytes in memory.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(len) => *len,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Consecutive pages that are added with the same SECINFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Distance from the base of ELRANGE in bytes, page-aligned.
    pub offset: u64,
    /// SECINFO of each page.
    pub secinfo: Secinfo,
    /// What the pages hold.
    pub content: Content<'a>,
    /// Whether the content is measured with EEXTEND.
    pub measure: bool,
}

impl Chunk<'_> {
    /// End of the pages, as a distance from the base of ELRANGE.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.content.len())
    }

    /// Each page with its distance from the base of ELRANGE.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8; PAGE_SIZE])> {
        let (bytes, zeros) = match &self.content {
            Content::Bytes(bytes) => (bytes.as_ref(), 0),
            Content::Zeros(len) => (&[][..], len / PAGE_SIZE as u64),
        };
        let (pages, _) = bytes.as_chunks::<PAGE_SIZE>();
        let pages = pages.iter().chain((0..zeros).map(|_| &ZERO_PAGE));
        (self.offset..).step_by(PAGE_SIZE).zip(pages)
    }
}

/// Measured pages holding `bytes`, as chunks that tell zero pages from others. A last part page is filled with
/// zeros.
pub(crate) fn sparse(offset: u64, secinfo: Secinfo, bytes: &[u8]) -> Vec<Chunk<'static>> {
    let is_zero = |page: &[u8]| page.iter().all(|&byte| byte == 0);
    let pages: Vec<&[u8]> = bytes.chunks(PAGE_SIZE).collect();
    let mut chunks = Vec::new();
    let mut at = offset;
    for run in pages.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let len = run.len() * PAGE_SIZE;
        let content = if run.first().is_some_and(|page| is_zero(page)) {
            Content::Zeros(len as u64)
        } else {
            let mut data = run.concat();
            data.resize(len, 0);
            Content::Bytes(Cow::Owned(data))
        };
        chunks.push(Chunk { offset: at, secinfo, content, measure: true });
        at += len as u64;
    }
    chunks
}

/// Measured zero pages.
pub(crate) fn zeros(offset: u64, secinfo: Secinfo, pages: u64) -> Chunk<'static> {
    Chunk { offset, secinfo, content: Content::Zeros(pages * PAGE_SIZE as u64), measure: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sgx_arch::SecinfoFlags;

    #[test]
    fn zero_pages_are_told_from_others_and_the_last_page_is_filled() {
        let mut bytes = vec![0; 4 * PAGE_SIZE + 10];
        bytes[PAGE_SIZE] = 1;
        bytes[4 * PAGE_SIZE + 9] = 2;
        let chunks = sparse(0x1000, Secinfo::reg(SecinfoFlags::R), &bytes);
        let shape: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.offset, chunk.content.len(), matches!(chunk.content, Content::Zeros(_))))
            .collect();
        assert_eq!(
            shape,
            [
                (0x1000, 0x1000, true),
                (0x2000, 0x1000, false),
                (0x3000, 0x2000, true),
                (0x5000, 0x1000, false)
            ]
        );
        assert!(sparse(0, Secinfo::tcs(), &[]).is_empty());
    }
}
