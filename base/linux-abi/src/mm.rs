//! Flags of `mmap(2)`, `mprotect(2)`, `mremap(2)`, `madvise(2)`, `msync(2)`.

use bitflags::bitflags;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

bitflags! {
    /// `prot` of `mmap(2)` and `mprotect(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// PROT_READ.
        const READ = 1;
        /// PROT_WRITE.
        const WRITE = 2;
        /// PROT_EXEC.
        const EXEC = 4;
        /// PROT_SEM: without effect.
        const SEM = 8;
        /// PROT_GROWSDOWN: `mprotect` reaches down to the start of a stack.
        const GROWSDOWN = 0x0100_0000;
        /// PROT_GROWSUP.
        const GROWSUP = 0x0200_0000;
    }

    /// `flags` of `mmap(2)`. Linux ignores bits that it does not know unless MAP_SHARED_VALIDATE is given.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// MAP_SHARED.
        const SHARED = 0x01;
        /// MAP_PRIVATE.
        const PRIVATE = 0x02;
        /// MAP_FIXED.
        const FIXED = 0x10;
        /// MAP_ANONYMOUS.
        const ANONYMOUS = 0x20;
        /// MAP_32BIT: below 2 GiB.
        const LOW_2GIB = 0x40;
        /// MAP_GROWSDOWN.
        const GROWSDOWN = 0x0100;
        /// MAP_DENYWRITE: ignored.
        const DENYWRITE = 0x0800;
        /// MAP_EXECUTABLE: ignored.
        const EXECUTABLE = 0x1000;
        /// MAP_LOCKED.
        const LOCKED = 0x2000;
        /// MAP_NORESERVE.
        const NORESERVE = 0x4000;
        /// MAP_POPULATE.
        const POPULATE = 0x8000;
        /// MAP_NONBLOCK.
        const NONBLOCK = 0x1_0000;
        /// MAP_STACK: a hint.
        const STACK = 0x2_0000;
        /// MAP_HUGETLB.
        const HUGETLB = 0x4_0000;
        /// MAP_SYNC.
        const SYNC = 0x8_0000;
        /// MAP_FIXED_NOREPLACE.
        const FIXED_NOREPLACE = 0x10_0000;
    }

    /// `flags` of `mremap(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// MREMAP_MAYMOVE.
        const MAYMOVE = 1;
        /// MREMAP_FIXED.
        const FIXED = 2;
        /// MREMAP_DONTUNMAP.
        const DONTUNMAP = 4;
    }

    /// `flags` of `msync(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SyncFlags: u32 {
        /// MS_ASYNC.
        const ASYNC = 1;
        /// MS_INVALIDATE.
        const INVALIDATE = 2;
        /// MS_SYNC.
        const SYNC = 4;
    }

    /// `flags` of `mlockall(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LockAllFlags: u32 {
        /// MCL_CURRENT.
        const CURRENT = 1;
        /// MCL_FUTURE.
        const FUTURE = 2;
        /// MCL_ONFAULT.
        const ONFAULT = 4;
    }
}

/// MAP_SHARED_VALIDATE: MAP_SHARED and MAP_PRIVATE together.
pub const MAP_SHARED_VALIDATE: u32 = 0x03;

/// Advice of `madvise(2)`.
pub mod advice {
    /// MADV_NORMAL.
    pub const NORMAL: i32 = 0;
    /// MADV_RANDOM.
    pub const RANDOM: i32 = 1;
    /// MADV_SEQUENTIAL.
    pub const SEQUENTIAL: i32 = 2;
    /// MADV_WILLNEED.
    pub const WILLNEED: i32 = 3;
    /// MADV_DONTNEED.
    pub const DONTNEED: i32 = 4;
    /// MADV_FREE.
    pub const FREE: i32 = 8;
    /// MADV_REMOVE.
    pub const REMOVE: i32 = 9;
    /// MADV_DONTFORK.
    pub const DONTFORK: i32 = 10;
    /// MADV_DOFORK.
    pub const DOFORK: i32 = 11;
    /// MADV_MERGEABLE.
    pub const MERGEABLE: i32 = 12;
    /// MADV_UNMERGEABLE.
    pub const UNMERGEABLE: i32 = 13;
    /// MADV_HUGEPAGE.
    pub const HUGEPAGE: i32 = 14;
    /// MADV_NOHUGEPAGE.
    pub const NOHUGEPAGE: i32 = 15;
    /// MADV_DONTDUMP.
    pub const DONTDUMP: i32 = 16;
    /// MADV_DODUMP.
    pub const DODUMP: i32 = 17;
    /// MADV_WIPEONFORK.
    pub const WIPEONFORK: i32 = 18;
    /// MADV_KEEPONFORK.
    pub const KEEPONFORK: i32 = 19;
    /// MADV_COLD.
    pub const COLD: i32 = 20;
    /// MADV_PAGEOUT.
    pub const PAGEOUT: i32 = 21;
    /// MADV_POPULATE_READ.
    pub const POPULATE_READ: i32 = 22;
    /// MADV_POPULATE_WRITE.
    pub const POPULATE_WRITE: i32 = 23;
}
