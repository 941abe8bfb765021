//! Lays out directory data: blocks of sorted entries followed by their names.

use erofs_format::{BLOCK, DirentHeader, FileType};
use zerocopy::IntoBytes;

/// An entry of a directory to be written.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) file_type: FileType,
}

/// Bytes of a directory's data, which its names alone decide. They must be sorted.
pub(crate) fn len<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut whole = 0;
    let mut used = 0;
    for name in names {
        let need = DirentHeader::LEN + name.len();
        if used + need > BLOCK {
            whole += BLOCK as u64;
            used = 0;
        }
        used += need;
    }
    whole + used as u64
}

/// A directory's data. `entries` must be sorted by name.
pub(crate) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest
            .iter()
            .take_while(|entry| {
                used += DirentHeader::LEN + entry.name.len();
                used <= BLOCK
            })
            .count();
        let (block, after) = rest.split_at(fitting);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        encode_block(block, &mut bytes);
        rest = after;
    }
    bytes
}

fn encode_block(entries: &[Entry<'_>], bytes: &mut Vec<u8>) {
    let mut name_offset = entries.len() * DirentHeader::LEN;
    for entry in entries {
        let header = DirentHeader {
            nid: entry.nid.into(),
            // A block has 4096 bytes: `encode` put in no more than fits.
            name_offset: u16::try_from(name_offset).unwrap_or(u16::MAX).into(),
            file_type: entry.file_type as u8,
            reserved: 0,
        };
        bytes.extend_from_slice(header.as_bytes());
        name_offset += entry.name.len();
    }
    for entry in entries {
        bytes.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use erofs_format::DirBlock;

    use super::*;

    #[test]
    fn names_that_do_not_fit_go_to_further_blocks() {
        let names: Vec<String> = (0..1000).map(|n| format!("{n:0>40}")).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| Entry { name: name.as_bytes(), nid: 5, file_type: FileType::Regular })
            .collect();
        let bytes = encode(&entries);
        assert_eq!(bytes.len() as u64, len(names.iter().map(String::as_bytes)));
        let mut found = Vec::new();
        for block in bytes.chunks(BLOCK) {
            let block = DirBlock::new(block).unwrap();
            found.extend((0..block.len()).map(|i| block.entry(i).unwrap().name.to_vec()));
        }
        assert!(found.iter().map(Vec::as_slice).eq(names.iter().map(String::as_bytes)));
    }

    #[test]
    fn a_block_may_be_filled_to_the_last_byte() {
        let names: Vec<String> = (0..16).map(|n| format!("{n:0>244}")).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| Entry { name: name.as_bytes(), nid: 5, file_type: FileType::Regular })
            .collect();
        let bytes = encode(&entries);
        assert_eq!(bytes.len(), BLOCK);
        assert_eq!(DirBlock::new(&bytes).unwrap().entry(15).unwrap().name, names[15].as_bytes());
    }
}
