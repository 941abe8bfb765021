//! What becomes of pages that programs leave behind.

use crate::testing::World;
use crate::vm::{AddressSpace, MapRequest, MappedFile, Place};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kbase::{ByteSink, Result, UserAddr, UserSpace};
use platform::{Protection, UserMemory};
use vfs::{Inode, MappedPages, Metadata, Regular};

const PAGE: u64 = 4096;
const READ: Protection = Protection::READ;
const WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// A file of one page of ones that shows the image.
struct OfImage(Arc<dyn Regular>);

impl Inode for OfImage {
    fn metadata(&self) -> Result<Metadata> {
        self.0.metadata()
    }
    fn as_any(&self) -> &dyn core::any::Any {
        self
    }
}

impl Regular for OfImage {
    fn read_at(&self, offset: u64, into: &mut dyn ByteSink) -> Result<usize> {
        self.0.read_at(offset, into)
    }
    fn mapped_pages(&self) -> Option<&dyn MappedPages> {
        Some(self)
    }
}

impl MappedPages for OfImage {
    fn rewrite_sites(&self) -> Result<Option<Arc<[u8]>>> {
        Ok(None)
    }
}

fn file_of_image() -> Arc<dyn Regular> {
    let file = fs_mem::MemFs::new(9, 1 << 20, 0o755, Arc::new(|| 0)).unnamed_file(0o755);
    file.write_at(0, &mut kbase::SliceSource::new(&[1; 4096])).unwrap();
    Arc::new(OfImage(file))
}

fn map(space: &AddressSpace, file: Option<&Arc<dyn Regular>>, protection: Protection) -> u64 {
    let mapped = |file: &Arc<dyn Regular>| Arc::new(MappedFile { file: file.clone(), path: Vec::new() });
    let request = MapRequest {
        protection,
        file: file.map(|file| (mapped(file), 0)),
        ..MapRequest::reservation(Place::Any, PAGE)
    };
    space.map(request).unwrap()
}

fn first_byte(space: &AddressSpace, at: u64) -> u8 {
    let mut byte = [0];
    space.load(UserAddr(at), &mut byte).unwrap();
    byte[0]
}

#[test]
fn the_next_program_finds_the_same_text_and_zeros_and_commits_nothing() {
    let world = World::new();
    let file = file_of_image();
    let run = || {
        let space = world.kernel.memory.new_space();
        let (text, data) = (map(&space, Some(&file), READ), map(&space, None, WRITE));
        assert_eq!((first_byte(&space, text), first_byte(&space, data)), (1, 0));
        space.store(UserAddr(data), &[7]).unwrap();
        space.end();
        (text, data, world.platform.committed_pages())
    };
    let first = run();
    assert_eq!(run(), first, "the same addresses, and no page more");
    assert_eq!(world.pages_in_use(), 0);
}

#[test]
fn nothing_can_be_read_of_what_another_program_left() {
    let world = World::new();
    let space = world.kernel.memory.new_space();
    let at = map(&space, None, WRITE);
    space.store(UserAddr(at), &[7]).unwrap();
    space.end();
    let mut byte = [7];
    assert!(world.platform.user_load(at, &mut byte).is_ok() && byte == [0], "nobody runs there");
    drop(space);
    let next = world.kernel.memory.new_space();
    assert_eq!(map(&next, None, READ), at);
    assert_eq!(first_byte(&next, at), 0);
}

#[test]
fn a_program_that_runs_reaches_only_what_it_has_taken() {
    let world = World::new();
    let leave_two = || {
        let space = world.kernel.memory.new_space();
        let both = [map(&space, None, WRITE), map(&space, None, WRITE)];
        for at in both {
            space.store(UserAddr(at), &[7]).unwrap();
        }
        both
    };
    let reaches = |at| world.platform.user_load(at, &mut [0]).is_ok();
    let [taken, other] = leave_two();
    let next = world.kernel.memory.new_space();
    assert_eq!(map(&next, None, WRITE), taken);
    assert!(reaches(taken) && reaches(other));
    next.set_loaded();
    assert!(reaches(taken) && !reaches(other), "the rest is concealed when the program begins");
    assert_eq!(map(&next, None, WRITE), other);
    assert!(reaches(other), "and taken all the same");
    drop(next);

    let [one, other] = leave_two();
    let running = world.kernel.memory.new_space();
    running.set_loaded();
    assert!(running.claim_addresses(&(other..one + PAGE)));
    assert!(!reaches(one) && !reaches(other), "and when one that runs comes to have the addresses");
}

#[test]
fn a_heap_takes_the_zeros_that_another_left() {
    let world = World::new();
    let grow = || {
        let space = world.kernel.memory.new_space();
        let start = space.room_for_program(PAGE).unwrap();
        space.start_heap(start, u64::MAX);
        space.set_loaded();
        assert_eq!(space.move_heap_end(start + 2 * PAGE), start + 2 * PAGE);
        let before = world.platform.committed_pages();
        space.store(UserAddr(start + PAGE), &[7]).unwrap();
        assert_eq!(first_byte(&space, start), 0);
        world.platform.committed_pages() - before
    };
    assert_eq!((grow(), grow()), (2, 0));
}

#[test]
fn what_is_of_no_use_goes_when_its_page_is_needed() {
    let world = World::new();
    let file = file_of_image();
    let space = world.kernel.memory.new_space();
    let at = map(&space, Some(&file), READ);
    assert_eq!(first_byte(&space, at), 1);
    drop(space);
    let next = world.kernel.memory.new_space();
    assert_eq!(map(&next, None, WRITE), at);
    assert_eq!(first_byte(&next, at), 0);
    next.store(UserAddr(at), &[3]).unwrap();
    assert_eq!(first_byte(&next, at), 3);
    drop(next);
    // A private page of a file that may be written gets its content though zeros are there.
    let last = world.kernel.memory.new_space();
    assert_eq!(map(&last, Some(&file), WRITE), at);
    assert_eq!(first_byte(&last, at), 1);
}

#[test]
fn text_of_a_member_of_a_group_is_set_aside_while_another_is_in_place() {
    let world = World::new();
    let memory = &world.kernel.memory;
    let wanted = 0x40_0000..0x48_0000;
    let (first, second) = (memory.new_space_at(&wanted).unwrap(), memory.new_space_at(&wanted).unwrap());
    let file = file_of_image();
    let map_at = |space: &AddressSpace, at: u64, file: Option<&Arc<dyn Regular>>, protection| {
        let mapped = file.map(|file| (Arc::new(MappedFile { file: file.clone(), path: Vec::new() }), 0));
        let place = Place::Fixed(at);
        let request = MapRequest { protection, file: mapped, ..MapRequest::reservation(place, PAGE) };
        space.map(request).unwrap()
    };
    assert!(first.try_enter());
    let [text, replaced, data] = [0x40_0000, 0x40_1000, 0x40_2000];
    for at in [text, replaced] {
        map_at(&first, at, Some(&file), READ);
        assert_eq!(first_byte(&first, at), 1);
    }
    map_at(&first, data, None, WRITE);
    first.store(UserAddr(data), &[7]).unwrap();
    first.leave();

    assert!(second.try_enter());
    let mut byte = [0];
    for at in [text, replaced, data] {
        assert!(second.load(UserAddr(at), &mut byte).is_err(), "it has nothing there");
        assert!(world.platform.user_load(at, &mut byte).is_err(), "and the program neither");
    }
    map_at(&second, replaced, None, WRITE);
    second.store(UserAddr(replaced), &[3]).unwrap();
    second.leave();

    assert!(first.try_enter());
    let before = world.platform.committed_pages();
    assert_eq!(first_byte(&first, text), 1);
    assert_eq!(world.platform.committed_pages(), before, "it was there");
    assert_eq!((first_byte(&first, replaced), first_byte(&first, data)), (1, 7));
    first.leave();
    assert!(second.try_enter());
    assert_eq!(first_byte(&second, replaced), 3);
    second.leave();
    drop((first, second));
    assert_eq!(world.pages_in_use(), 0);
}

#[test]
fn memory_that_is_short_takes_what_was_left_behind() {
    let world = World::on(fake_platform::FakePlatform::with_user_limit(4 * PAGE));
    let fill = |space: &AddressSpace| {
        let at = map(space, None, WRITE);
        space.zero(UserAddr(at), PAGE).unwrap();
        at
    };
    let ended = world.kernel.memory.new_space();
    let first = [(); 4].map(|()| fill(&ended));
    ended.end();
    // Its addresses are its own until it is dropped.
    let next = world.kernel.memory.new_space();
    assert!([(); 4].map(|()| fill(&next)).iter().all(|at| !first.contains(at)));
    assert_eq!(world.platform.committed_pages(), 4);
}

#[test]
fn what_a_program_unmaps_it_finds_again_as_zeros_or_as_the_file() {
    let world = World::new();
    let file = file_of_image();
    let space = world.kernel.memory.new_space();
    let (text, data) = (map(&space, Some(&file), READ), map(&space, None, WRITE));
    assert_eq!(first_byte(&space, text), 1);
    space.store(UserAddr(data), &[7]).unwrap();
    space.set_loaded();
    let before = world.platform.committed_pages();
    for at in [text, data] {
        space.unmap(at, PAGE).unwrap();
        assert!(world.platform.user_load(at, &mut [0]).is_err(), "out of reach meanwhile");
    }
    assert_eq!((map(&space, Some(&file), READ), map(&space, None, WRITE)), (text, data));
    assert_eq!((first_byte(&space, text), first_byte(&space, data)), (1, 0));
    assert_eq!(world.platform.committed_pages(), before, "and no page more");
    space.unmap(data, PAGE).unwrap();
    assert_eq!(map(&space, None, READ), data);
    assert_eq!(first_byte(&space, data), 0);
    drop(space);
    assert_eq!(world.pages_in_use(), 0);
}

#[test]
fn much_that_is_unmapped_is_given_back() {
    let world = World::new();
    let space = world.kernel.memory.new_space();
    let before = world.platform.committed_pages();
    let len = 65 * PAGE;
    let request = MapRequest { protection: WRITE, ..MapRequest::reservation(Place::Any, len) };
    let at = space.map(request).unwrap();
    space.zero(UserAddr(at), len).unwrap();
    space.unmap(at, len).unwrap();
    assert_eq!(world.platform.committed_pages(), before);
}

/// As interpreters do it: the library as a whole, then its segments over it.
#[test]
fn an_interpreter_takes_a_library_piece_by_piece() {
    const MMAP: u64 = 9;
    const FIXED: u64 = 0x12;
    const CLOSE: u64 = 3;
    let interpreter = 0x40_0000..0x40_1000;
    let inside = interpreter.start + 7;
    let world = World::new();
    let file = file_of_image();
    let mapped = || Some((Arc::new(MappedFile { file: file.clone(), path: Vec::new() }), 0));
    let reaches = |at| world.platform.user_load(at, &mut [0]).is_ok();
    let load = |segment_at: Option<u64>| {
        let space = world.kernel.memory.new_space();
        space.expect_interpreter(interpreter.clone());
        space.note_call(MMAP, &[0, 3 * PAGE, 1, 2, 3, 0], inside);
        let request =
            MapRequest { protection: READ, file: mapped(), ..MapRequest::reservation(Place::Any, 3 * PAGE) };
        let start = space.map(request).unwrap();
        let data = start + 2 * PAGE;
        let stays = reaches(data);
        match segment_at {
            Some(offset) => space.note_call(MMAP, &[start + offset, PAGE, 3, FIXED, 3, 0], inside),
            None => space.note_call(CLOSE, &[3, 0, 0, 0, 0, 0], inside),
        }
        let stays = (stays, reaches(data));
        let request = MapRequest { protection: WRITE, ..MapRequest::reservation(Place::Fixed(data), PAGE) };
        space.map(request).unwrap();
        space.store(UserAddr(data), &[7]).unwrap();
        space.note_call(CLOSE, &[3, 0, 0, 0, 0, 0], inside);
        assert_eq!(first_byte(&space, data), 7);
        stays
    };
    assert_eq!(load(Some(2 * PAGE)), (false, false), "nothing is there the first time");
    assert_eq!(load(Some(2 * PAGE)), (true, true), "zeros for the segment that replaces the last page");
    assert_eq!(load(None), (true, false), "which the file must not show");
    assert_eq!(load(Some(3 * PAGE)), (true, false), "nor if the segment is elsewhere");
}
