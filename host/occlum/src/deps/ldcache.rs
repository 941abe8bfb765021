//! /etc/ld.so.cache: where the dynamic linker finds a library by its name.
//!
//! The format is glibc's "new" one (2.2 and later; the only one that ldconfig has written by default since
//! 2.32), also where it follows an old-format table. Read as the dynamic linker reads it, checked as a file
//! from a stranger.

use std::collections::HashMap;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// FLAG_ELF_LIBC6 | FLAG_X8664_LIB64.
const FLAGS: u32 = 0x0303;

/// The libraries of this machine by name.
#[derive(Debug, Default)]
pub(crate) struct LdCache {
    paths: HashMap<String, Vec<String>>,
}

impl LdCache {
    /// Reads a cache file. What is not understood is left out: a linker without a cache searches folders.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self::try_parse(bytes).unwrap_or_default()
    }

    fn try_parse(file: &[u8]) -> Option<Self> {
        let start = if file.starts_with(OLD_MAGIC) {
            // The old table: a 12-byte magic, a count, and entries of 12 bytes; the new one is 8-aligned.
            let count = u32_at(file, 12)? as usize;
            count.checked_mul(12)?.checked_add(16)?.next_multiple_of(8)
        } else {
            0
        };
        let table = file.get(start..)?;
        if !table.starts_with(MAGIC) {
            return None;
        }
        let count = u32_at(table, MAGIC.len())? as usize;
        let mut paths: HashMap<String, Vec<String>> = HashMap::new();
        let entries = table.get(HEADER..)?.chunks_exact(ENTRY).take(count);
        for entry in entries {
            if u32_at(entry, 0)? != FLAGS {
                continue;
            }
            let (Some(name), Some(path)) =
                (string(table, u32_at(entry, 4)?), string(table, u32_at(entry, 8)?))
            else {
                continue;
            };
            paths.entry(name).or_default().push(path);
        }
        Some(Self { paths })
    }

    /// All paths of the library `name`, best first: which of them the linker takes depends on the processor.
    pub(crate) fn find(&self, name: &str) -> &[String] {
        self.paths.get(name).map_or(&[], Vec::as_slice)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn string(table: &[u8], offset: u32) -> Option<String> {
    let rest = table.get(offset as usize..)?;
    let end = rest.iter().position(|b| *b == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache as ldconfig writes it.
    fn cache(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let base = HEADER + ENTRY * entries.len();
        let mut table = Vec::new();
        for (flags, name, path) in entries {
            let name_at = base + strings.len();
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
            let path_at = base + strings.len();
            strings.extend_from_slice(path.as_bytes());
            strings.push(0);
            table.extend_from_slice(&flags.to_le_bytes());
            table.extend_from_slice(&(name_at as u32).to_le_bytes());
            table.extend_from_slice(&(path_at as u32).to_le_bytes());
            table.extend_from_slice(&[0; 12]);
        }
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        file.resize(HEADER, 0);
        [file, table, strings].concat()
    }

    #[test]
    fn libraries_of_this_architecture_are_found_in_order() {
        let bytes = cache(&[
            (FLAGS, "libx.so.1", "/v3/libx.so.1"),
            (3, "libx.so.1", "/32"),
            (FLAGS, "libx.so.1", "/b"),
        ]);
        assert_eq!(LdCache::parse(&bytes).find("libx.so.1"), ["/v3/libx.so.1", "/b"]);
        assert!(LdCache::parse(&bytes).find("liby.so").is_empty());
    }

    #[test]
    fn a_new_table_behind_an_old_one_is_found() {
        let mut file = [OLD_MAGIC, &[0], &1u32.to_le_bytes(), &[0; 12]].concat();
        file.resize(file.len().next_multiple_of(8), 0);
        file.extend(cache(&[(FLAGS, "liba.so", "/a")]));
        assert_eq!(LdCache::parse(&file).find("liba.so"), ["/a"]);
    }

    #[test]
    fn a_damaged_cache_is_an_empty_or_partial_one() {
        let whole = cache(&[(FLAGS, "liba.so", "/a"), (FLAGS, "libb.so", "/b")]);
        for cut in 0..whole.len() {
            LdCache::parse(&whole[..cut]);
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] = 0xff;
            LdCache::parse(&broken);
        }
    }

    #[test]
    fn the_cache_of_this_machine_knows_libc() {
        let cache = LdCache::parse(&std::fs::read("/etc/ld.so.cache").unwrap());
        assert!(cache.find("libc.so.6").iter().any(|path| std::path::Path::new(path).exists()));
    }
}
