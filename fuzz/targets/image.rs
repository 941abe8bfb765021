//! EROFS images whose hashes are right and whose content is not: the reader in the enclave.
#![no_main]

use erofs_format::{Footer, ImageRoot, TreeBuilder, hash_block};
use fs_image::{BlockSource, CacheSize, ImageFs};
use kbase::{Result, SliceSink};
use libfuzzer_sys::fuzz_target;
use std::fmt;
use std::sync::Arc;
use vfs::{FileSystem, Name, Node};

const BLOCK: usize = 4096;
const SALT: [u8; 32] = [7; 32];

struct Bytes(Vec<u8>);

impl BlockSource for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let end = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(into.len())?));
        match end.and_then(|range| self.0.get(range)) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => kbase::bail!(EIO, "past the end"),
        }
        Ok(())
    }

    fn report(&self, _line: fmt::Arguments<'_>) {}
}

/// Looks at all that can be seen from `node` on, as far as `budget` goes.
fn walk(node: &Node, depth: u32, budget: &mut u32) {
    if *budget == 0 || depth > 8 {
        return;
    }
    *budget -= 1;
    let _ = node.inode().metadata();
    let _ = node.inode().xattr(b"user.note");
    match node {
        Node::Directory(directory) => {
            let mut cursor = 0;
            while let Ok(entries) = directory.entries(cursor, 16) {
                let Some(last) = entries.last() else { break };
                assert!(last.next > cursor, "listing a directory goes on");
                cursor = last.next;
                for entry in &entries {
                    if let Ok(name) = Name::new(&entry.name)
                        && let Ok(child) = directory.lookup(name)
                    {
                        walk(&child, depth + 1, budget);
                    }
                }
                if *budget == 0 {
                    break;
                }
                *budget -= 1;
            }
        }
        Node::Regular(file) => {
            let mut bytes = [0; 5000];
            for offset in [0, 4000, 1 << 20, 1 << 40, u64::MAX - 100] {
                let _ = file.read_at(offset, &mut SliceSink::new(&mut bytes));
            }
            let _ = file.page(0);
            let _ = file.mapped_pages().map(|pages| pages.rewrite_sites());
        }
        Node::Symlink(link) => drop(link.target()),
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    bytes.truncate(64 * BLOCK);
    bytes.resize(bytes.len().max(1).next_multiple_of(BLOCK), 0);
    let data_blocks = (bytes.len() / BLOCK) as u64;
    let mut tree = TreeBuilder::new();
    bytes.chunks(BLOCK).for_each(|block| tree.push(hash_block(&SALT, block)));
    let Ok((hashes, root_hash)) = tree.finish(&SALT) else { return };
    let root = ImageRoot { root_hash, salt: SALT, data_blocks };
    bytes.extend(hashes);
    bytes.extend(Footer::new(&root).encode());
    let cache = CacheSize { data_blocks: 8, tree_blocks: 2 };
    if let Ok(fs) = ImageFs::open(Arc::new(Bytes(bytes)), &root.commitment(), cache, 1) {
        walk(&Node::Directory(fs.root()), 0, &mut 200);
    }
});
