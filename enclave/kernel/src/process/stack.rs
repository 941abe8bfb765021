//! The initial stack of a program (System V ABI for x86-64, section 3.4.1).

use alloc::vec::Vec;
use kbase::{Result, bail};
use linux_abi::process::auxv;

/// Bytes of arguments and environment at most, whatever the stack's size.
const MAX_STRINGS: usize = 6 << 20;
/// Bytes of one argument at most (MAX_ARG_STRLEN).
const MAX_STRING: usize = 128 << 10;

/// What the stack is to hold.
pub(super) struct Content<'a> {
    /// Arguments.
    pub(super) arguments: &'a [Vec<u8>],
    /// Environment.
    pub(super) environment: &'a [Vec<u8>],
    /// Path for AT_EXECFN.
    pub(super) path: &'a [u8],
    /// For AT_RANDOM.
    pub(super) random: [u8; 16],
    /// Entries of the auxiliary vector, except for those that point into the stack and AT_NULL.
    pub(super) auxv: &'a [(u64, u64)],
}

/// Checks the size of arguments and environment.
///
/// # Errors
/// E2BIG they are too long for a stack of `stack_size` bytes.
pub(super) fn check(arguments: &[Vec<u8>], environment: &[Vec<u8>], stack_size: u64) -> Result<()> {
    let limit = usize::try_from(stack_size / 4).unwrap_or(MAX_STRINGS).min(MAX_STRINGS);
    let mut total = 0usize;
    for string in arguments.iter().chain(environment) {
        if string.len() >= MAX_STRING {
            bail!(E2BIG, "an argument is longer than 128 KiB");
        }
        total = total.saturating_add(string.len() + 1 + size_of::<u64>());
    }
    if total > limit {
        bail!(E2BIG, "arguments and environment are too long");
    }
    Ok(())
}

/// A stack that was built.
pub(super) struct Built {
    /// Its bytes, from the stack pointer up.
    pub(super) bytes: Vec<u8>,
    /// The stack pointer.
    pub(super) pointer: u64,
    /// The auxiliary vector in it, for `/proc/PID/auxv`.
    pub(super) auxv: Vec<u8>,
}

/// The bytes at the top of a stack that ends at `top`, and the stack pointer, which is their address.
pub(super) fn build(content: &Content<'_>, top: u64) -> Built {
    // Strings first, since the vectors point at them; addresses are counted from the start of the strings.
    let mut strings = Vec::new();
    let mut put = |string: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(string);
        strings.push(0);
        at
    };
    let random = put(&content.random);
    let platform = put(b"x86_64");
    let arguments: Vec<u64> = content.arguments.iter().map(|string| put(string)).collect();
    let environment: Vec<u64> = content.environment.iter().map(|string| put(string)).collect();
    let path = put(content.path);
    // The last eight bytes of a stack are zero.
    strings.resize(strings.len().next_multiple_of(16) + 16, 0);
    let base = top.saturating_sub(strings.len() as u64);

    let mut words: Vec<u64> = Vec::new();
    words.push(arguments.len() as u64);
    words.extend(arguments.iter().map(|at| base + at));
    words.push(0);
    words.extend(environment.iter().map(|at| base + at));
    words.push(0);
    let auxv_start = words.len() * size_of::<u64>();
    let pointers =
        [(auxv::RANDOM, base + random), (auxv::PLATFORM, base + platform), (auxv::EXECFN, base + path)];
    for &(kind, value) in content.auxv.iter().chain(&pointers) {
        words.extend([kind, value]);
    }
    words.extend([auxv::NULL, 0]);

    let words_len = (words.len() * size_of::<u64>()) as u64;
    let pointer = base.saturating_sub(words_len) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let auxv = bytes.get(auxv_start..).unwrap_or_default().to_vec();
    let padding = usize::try_from(base.saturating_sub(words_len) - pointer).unwrap_or(0);
    bytes.resize(bytes.len() + padding, 0);
    bytes.append(&mut strings);
    Built { bytes, pointer, auxv }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_reads_as_the_abi_says() {
        let content = Content {
            arguments: &[b"prog".to_vec(), b"one".to_vec()],
            environment: &[b"A=b".to_vec()],
            path: b"/bin/prog",
            random: [7; 16],
            auxv: &[(auxv::PAGESZ, 4096)],
        };
        let Built { bytes, pointer, auxv: vector } = build(&content, 0x10_0000);
        assert_eq!(vector.get(..16), bytes.get(6 * 8..8 * 8));
        assert_eq!(pointer % 16, 0);
        assert_eq!(pointer + bytes.len() as u64, 0x10_0000);
        let word = |index: usize| u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().unwrap());
        let string = |address: u64| {
            let start = usize::try_from(address - pointer).unwrap();
            let len = bytes[start..].iter().position(|&byte| byte == 0).unwrap();
            bytes[start..start + len].to_vec()
        };
        assert_eq!(word(0), 2);
        assert_eq!((string(word(1)), string(word(2)), word(3)), (b"prog".to_vec(), b"one".to_vec(), 0));
        assert_eq!((string(word(4)), word(5)), (b"A=b".to_vec(), 0));
        assert_eq!((word(6), word(7)), (auxv::PAGESZ, 4096));
        assert_eq!(word(8), auxv::RANDOM);
        assert_eq!(string(word(9))[..16], [7; 16]);
        assert_eq!((word(12), string(word(13))), (auxv::EXECFN, b"/bin/prog".to_vec()));
        assert_eq!((word(14), word(15)), (auxv::NULL, 0));
    }
}
