//! What programs see of their memory, by system call.

use crate::ctx::Ctx;
use crate::testing::{SCRATCH, World};
use crate::vm::{Fault, MapRequest, MappedFile, Place};
use alloc::sync::Arc;
use fake_platform::FakePlatform;
use fs_mem::MemFs;
use kbase::{Errno, SliceSink, SliceSource, UserAddr};
use platform::Protection;
use vfs::Regular;

const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const MUNMAP: u64 = 11;
const BRK: u64 = 12;
const MREMAP: u64 = 25;
const MSYNC: u64 = 26;
const MINCORE: u64 = 27;
const MADVISE: u64 = 28;

const NONE: u64 = 0;
const READ: u64 = 1;
const RW: u64 = 3;
const PRIVATE_ANONYMOUS: u64 = 0x22;
const SHARED_ANONYMOUS: u64 = 0x21;
const FIXED: u64 = 0x10;
const FIXED_NOREPLACE: u64 = 0x10_0000;
const DONTNEED: u64 = 4;
const PAGE: u64 = 4096;
const NO_FILE: u64 = u64::MAX;

fn anonymous(ctx: &Ctx<'_>, len: u64, prot: u64) -> u64 {
    ctx.call(MMAP, &[0, len, prot, PRIVATE_ANONYMOUS, NO_FILE, 0]).unwrap()
}

fn can_store(ctx: &Ctx<'_>, address: u64) -> bool {
    ctx.user().store(UserAddr(address), &[1]).is_ok()
}

fn can_load(ctx: &Ctx<'_>, address: u64) -> bool {
    ctx.user().load(UserAddr(address), &mut [0]).is_ok()
}

/// A file of `content` in a tmpfs of its own.
fn file(content: &[u8]) -> Arc<dyn Regular> {
    let file = MemFs::new(9, 1 << 20, 0o755, Arc::new(|| 0)).unnamed_file(0o755);
    file.write_at(0, &mut SliceSource::new(content)).unwrap();
    file
}

fn map_file(ctx: &Ctx<'_>, file: &Arc<dyn Regular>, is_shared: bool, protection: Protection) -> u64 {
    let mapped = Arc::new(MappedFile { file: file.clone(), path: Vec::new() });
    let len = file.metadata().unwrap().size + 2 * PAGE;
    let request = MapRequest {
        is_shared,
        protection,
        file: Some((mapped, 0)),
        ..MapRequest::reservation(Place::Any, len)
    };
    ctx.space.map(request).unwrap()
}

#[test]
fn fresh_memory_is_zero_and_unmapped_memory_faults() {
    World::new().with_ctx(|ctx| {
        let at = anonymous(ctx, 3 * PAGE, RW);
        assert_eq!(ctx.peek::<u64>(at + PAGE), 0);
        ctx.poke(at + PAGE, 7u64);
        assert_eq!(ctx.peek::<u64>(at + PAGE), 7);
        ctx.call(MUNMAP, &[at + PAGE, PAGE]).unwrap();
        assert!(!can_load(ctx, at + PAGE));
        assert!(can_load(ctx, at) && can_load(ctx, at + 2 * PAGE));
        assert_eq!(ctx.space.handle_fault(at + PAGE, Protection::READ), Err(Fault::Unmapped));
    });
}

#[test]
fn an_access_across_uncommitted_pages_is_whole() {
    World::new().with_ctx(|ctx| {
        let at = anonymous(ctx, 100 * PAGE, RW);
        let bytes: Vec<u8> = (0..60 * 4096).map(|index: u32| index.to_le_bytes()[1]).collect();
        ctx.poke_bytes(at + 5000, &bytes);
        let mut back = vec![0; bytes.len()];
        ctx.user().load(UserAddr(at + 5000), &mut back).unwrap();
        assert_eq!(back, bytes);
        assert!(ctx.user().store(UserAddr(at + 99 * PAGE), &[1; 8192]).is_err());
    });
}

#[test]
fn reserving_much_costs_nothing() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let before = world.platform.committed_pages();
        let at = anonymous(ctx, 16 << 30, NONE);
        assert!(!can_load(ctx, at + (8 << 30)));
        assert_eq!(world.platform.committed_pages(), before);
        ctx.call(MPROTECT, &[at + (8 << 30), PAGE, RW]).unwrap();
        assert!(can_store(ctx, at + (8 << 30)));
        assert_eq!(world.platform.committed_pages(), before + 1);
    });
}

#[test]
fn protection_is_enforced_on_committed_and_on_fresh_pages() {
    World::new().with_ctx(|ctx| {
        let at = anonymous(ctx, 64 * PAGE, RW);
        ctx.poke(at, 1u64);
        ctx.call(MPROTECT, &[at, 64 * PAGE, READ]).unwrap();
        assert!(can_load(ctx, at) && !can_store(ctx, at));
        assert!(can_load(ctx, at + 40 * PAGE) && !can_store(ctx, at + 40 * PAGE));
        assert_eq!(ctx.space.handle_fault(at, Protection::WRITE), Err(Fault::Protected));
        ctx.call(MPROTECT, &[at, PAGE, NONE]).unwrap();
        assert!(!can_load(ctx, at));
        ctx.call(MPROTECT, &[at, 64 * PAGE, RW]).unwrap();
        assert_eq!(ctx.peek::<u64>(at), 1);
        assert!(can_store(ctx, at) && can_store(ctx, at + 63 * PAGE));
        assert_eq!(ctx.call(MPROTECT, &[at, 65 * PAGE, RW]), Err(Errno::ENOMEM));
        assert_eq!(ctx.call(MPROTECT, &[at + 1, PAGE, RW]), Err(Errno::EINVAL));
    });
}

#[test]
fn places_are_taken_as_asked() {
    World::new().with_ctx(|ctx| {
        let at = anonymous(ctx, 4 * PAGE, RW);
        ctx.poke(at, 5u64);
        let fixed = PRIVATE_ANONYMOUS | FIXED;
        let exclusive = PRIVATE_ANONYMOUS | FIXED_NOREPLACE;
        assert_eq!(ctx.call(MMAP, &[at, PAGE, RW, exclusive, NO_FILE, 0]), Err(Errno::EEXIST));
        assert_ne!(ctx.call(MMAP, &[at, PAGE, RW, PRIVATE_ANONYMOUS, NO_FILE, 0]), Ok(at));
        assert_eq!(ctx.call(MMAP, &[at, PAGE, RW, fixed, NO_FILE, 0]), Ok(at));
        assert_eq!(ctx.peek::<u64>(at), 0);
        ctx.call(MUNMAP, &[at, PAGE]).unwrap();
        assert_eq!(ctx.call(MMAP, &[at, PAGE, RW, PRIVATE_ANONYMOUS, NO_FILE, 0]), Ok(at));
        assert_eq!(ctx.call(MMAP, &[at + 1, PAGE, RW, fixed, NO_FILE, 0]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(MMAP, &[0, 0, RW, PRIVATE_ANONYMOUS, NO_FILE, 0]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(MMAP, &[0, PAGE, RW, 0x20, NO_FILE, 0]), Err(Errno::EINVAL));
        assert_eq!(ctx.call(MMAP, &[0, 1 << 60, RW, PRIVATE_ANONYMOUS, NO_FILE, 0]), Err(Errno::ENOMEM));
        assert_eq!(ctx.call(MMAP, &[0, PAGE, RW, fixed, NO_FILE, 0]), Err(Errno::EPERM));
        assert_eq!(ctx.call(MMAP, &[0, PAGE, RW, 2, 99, 0]), Err(Errno::EBADF));
    });
}

#[test]
fn discarded_memory_is_zero_again() {
    World::new().with_ctx(|ctx| {
        let at = anonymous(ctx, 4 * PAGE, RW);
        for page in 0..4 {
            ctx.poke(at + page * PAGE, 9u64);
        }
        ctx.call(MADVISE, &[at + PAGE, PAGE, DONTNEED]).unwrap();
        let words: Vec<u64> = (0..4).map(|page| ctx.peek(at + page * PAGE)).collect();
        assert_eq!(words, [9, 0, 9, 9]);
        assert_eq!(ctx.call(MADVISE, &[at, PAGE, 77]), Err(Errno::EINVAL));
        ctx.call(MUNMAP, &[at + 3 * PAGE, PAGE]).unwrap();
        assert_eq!(ctx.call(MADVISE, &[at, 4 * PAGE, DONTNEED]), Err(Errno::ENOMEM));
    });
}

#[test]
fn remapping_keeps_the_content() {
    World::new().with_ctx(|ctx| {
        let at = anonymous(ctx, 4 * PAGE, RW);
        let wall = ctx.call(MMAP, &[at - PAGE, PAGE, RW, PRIVATE_ANONYMOUS | FIXED, NO_FILE, 0]).unwrap();
        ctx.poke(wall, 3u64);
        ctx.poke(at + 3 * PAGE, 4u64);
        // Grows where nothing follows.
        assert_eq!(ctx.call(MREMAP, &[wall, PAGE, 2 * PAGE, 0, 0]), Err(Errno::ENOMEM));
        let moved = ctx.call(MREMAP, &[wall, PAGE, 8 * PAGE, 1, 0]).unwrap();
        assert_ne!(moved, wall);
        assert_eq!(ctx.peek::<u64>(moved), 3);
        assert!(!can_load(ctx, wall) && can_store(ctx, moved + 7 * PAGE));
        assert_eq!(ctx.call(MREMAP, &[at, 4 * PAGE, 2 * PAGE, 0, 0]), Ok(at));
        assert!(!can_load(ctx, at + 3 * PAGE));
        let target = anonymous(ctx, 2 * PAGE, NONE);
        ctx.poke(at, 6u64);
        assert_eq!(ctx.call(MREMAP, &[at, 2 * PAGE, 2 * PAGE, 3, target]), Ok(target));
        assert_eq!(ctx.peek::<u64>(target), 6);
        assert_eq!(ctx.call(MREMAP, &[at, PAGE, 2 * PAGE, 1, 0]), Err(Errno::EFAULT));
    });
}

#[test]
fn the_heap_begins_behind_what_the_loader_put_after_the_program() {
    World::new().with_ctx(|ctx| {
        let stubs = ctx.call(MMAP, &[0x100_0000, PAGE, 1, 0x32, u64::MAX, 0]);
        assert_eq!(stubs, Ok(0x100_0000));
        ctx.space.start_heap(0x100_0000, 1 << 20);
        assert_eq!(ctx.call(BRK, &[0]), Ok(0x100_1000));
        assert_eq!(ctx.call(BRK, &[0x100_2000]), Ok(0x100_2000));
    });
}

#[test]
fn the_heap_grows_and_shrinks() {
    World::new().with_ctx(|ctx| {
        ctx.space.start_heap(0x100_0000, 1 << 20);
        assert_eq!(ctx.call(BRK, &[0]), Ok(0x100_0000));
        assert_eq!(ctx.call(BRK, &[0x100_1234]), Ok(0x100_1234));
        ctx.poke(0x100_1000, 8u64);
        assert_eq!(ctx.call(BRK, &[0x110_0001]), Ok(0x100_1234), "beyond RLIMIT_DATA");
        assert_eq!(ctx.call(BRK, &[0x100_0800]), Ok(0x100_0800));
        assert!(!can_load(ctx, 0x100_1000));
        assert_eq!(ctx.call(BRK, &[0x100_1800]), Ok(0x100_1800));
        assert_eq!(ctx.peek::<u64>(0x100_1000), 0);
    });
}

#[test]
fn a_private_mapping_shows_the_file_and_leaves_it_alone() {
    World::new().with_ctx(|ctx| {
        let file = file(&[7; 5000]);
        let at = map_file(ctx, &file, false, Protection::READ | Protection::WRITE);
        assert_eq!(ctx.peek::<u8>(at + 4999), 7);
        assert_eq!(ctx.peek::<u8>(at + 5000), 0);
        assert_eq!(ctx.space.handle_fault(at + 2 * PAGE, Protection::READ), Err(Fault::NoContent));
        ctx.poke(at, 1u8);
        let mut first = [0];
        file.read_at(0, &mut SliceSink::new(&mut first)).unwrap();
        assert_eq!(first, [7]);
    });
}

#[test]
fn a_shared_mapping_reaches_the_file_when_it_is_synced_or_unmapped() {
    World::new().with_ctx(|ctx| {
        let file = file(&[7; 5000]);
        let byte = |offset| {
            let mut byte = [0];
            file.read_at(offset, &mut SliceSink::new(&mut byte)).unwrap();
            byte[0]
        };
        let at = map_file(ctx, &file, true, Protection::READ | Protection::WRITE);
        assert_eq!(ctx.peek::<u8>(at), 7);
        ctx.poke(at + 100, 1u8);
        assert_eq!(byte(100), 7);
        ctx.call(MSYNC, &[at, PAGE, 4]).unwrap();
        assert_eq!(byte(100), 1);
        // A page that was synced is noted again when it is stored to again.
        ctx.poke(at + 101, 2u8);
        ctx.poke(at + 4999, 3u8);
        ctx.poke(at + 5001, 4u8);
        ctx.call(MUNMAP, &[at, 4 * PAGE]).unwrap();
        assert_eq!((byte(101), byte(4999)), (2, 3));
        assert_eq!(file.metadata().unwrap().size, 5000);
    });
}

#[test]
fn shared_memory_survives_dontneed_and_residency_is_told() {
    World::new().with_ctx(|ctx| {
        let at = ctx.call(MMAP, &[0, 40 * PAGE, RW, SHARED_ANONYMOUS, NO_FILE, 0]).unwrap();
        ctx.poke(at, 1u64);
        ctx.call(MADVISE, &[at, PAGE, DONTNEED]).unwrap();
        assert_eq!(ctx.peek::<u64>(at), 1);
        ctx.call(MINCORE, &[at, 40 * PAGE, SCRATCH]).unwrap();
        assert_eq!((ctx.peek::<u8>(SCRATCH), ctx.peek::<u8>(SCRATCH + 39)), (1, 0));
    });
}

#[test]
fn memory_that_is_out_is_a_fault_and_not_the_end() {
    World::on(FakePlatform::with_user_limit(1 << 20)).with_ctx(|ctx| {
        let at = anonymous(ctx, 4 << 20, RW);
        let fault =
            (0..1024).find_map(|page| ctx.space.handle_fault(at + page * PAGE, Protection::WRITE).err());
        assert_eq!(fault, Some(Fault::OutOfMemory));
        ctx.call(MUNMAP, &[at, 4 << 20]).unwrap();
        let again = anonymous(ctx, PAGE, RW);
        assert!(can_store(ctx, again));
    });
}

#[test]
fn sequential_faults_commit_more_and_more() {
    let world = World::new();
    world.with_ctx(|ctx| {
        let at = anonymous(ctx, 64 << 20, RW);
        let before = world.platform.committed_pages();
        let mut faults = 0;
        let mut page = 0;
        while world.platform.committed_pages() - before < 2048 {
            ctx.space.handle_fault(at + page * PAGE, Protection::WRITE).unwrap();
            faults += 1;
            page = (world.platform.committed_pages() - before) as u64;
        }
        assert!(faults <= 10, "{faults} faults for 8 MiB");
    });
}
