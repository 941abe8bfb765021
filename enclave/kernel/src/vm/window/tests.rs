use super::*;
use crate::testing::World;
use crate::vm::{AddressSpace, MapRequest, Place};
use kbase::{SliceSink, SliceSource, UserAddr, UserSpace};

const PAGE: u64 = 4096;
const WRITE: Protection = Protection::READ.union(Protection::WRITE);

fn file(bytes: &[u8]) -> Arc<MappedFile> {
    let file = fs_mem::MemFs::new(9, 1 << 24, 0o755, Arc::new(|| 0)).unnamed_file(0o644);
    file.write_at(0, &mut SliceSource::new(bytes)).unwrap();
    Arc::new(MappedFile { file, path: Vec::new() })
}

fn byte_of(file: &MappedFile, offset: u64) -> u8 {
    let mut byte = [0];
    file.file.read_at(offset, &mut SliceSink::new(&mut byte)).unwrap();
    byte[0]
}

fn map(space: &AddressSpace, file: &Arc<MappedFile>, offset: u64, len: u64, protection: Protection) -> u64 {
    let request = MapRequest {
        protection,
        is_shared: true,
        file: Some((file.clone(), offset)),
        ..MapRequest::reservation(Place::Any, len)
    };
    space.map(request).unwrap()
}

fn load(space: &AddressSpace, at: u64) -> u8 {
    let mut byte = [0];
    space.load(UserAddr(at), &mut byte).unwrap();
    byte[0]
}

#[test]
fn spaces_that_are_no_relatives_see_each_others_stores_and_the_last_writes_the_file() {
    let world = World::new();
    let file = file(&[7; 3 * PAGE as usize]);
    let (one, other) = (world.kernel.memory.new_space(), world.kernel.memory.new_space());
    let at = map(&one, &file, 0, 3 * PAGE, WRITE);
    let there = map(&other, &file, PAGE, 2 * PAGE, WRITE);
    assert_eq!(there, at + PAGE);
    one.store(UserAddr(at + PAGE), &[1]).unwrap();
    assert_eq!(load(&other, there), 1);
    other.store(UserAddr(there + PAGE), &[2]).unwrap();
    assert_eq!(load(&one, at + 2 * PAGE), 2);
    drop(one);
    assert_eq!((load(&other, there), byte_of(&file, PAGE)), (1, 7));
    drop(other);
    assert_eq!((byte_of(&file, PAGE), byte_of(&file, 2 * PAGE)), (1, 2));
    assert_eq!(world.pages_in_use(), 0);
    assert!(world.kernel.memory.windows.is_empty());
    // The addresses are free for programs again.
    let all = world.kernel.memory.new_space();
    let whole = all.range().end - (1 << 30);
    all.map(MapRequest::reservation(Place::Any, whole)).unwrap();
}

#[test]
fn what_is_mapped_twice_is_unmapped_twice() {
    let world = World::new();
    let file = file(&[7; 2 * PAGE as usize]);
    let space = world.kernel.memory.new_space();
    let at = map(&space, &file, 0, 2 * PAGE, WRITE);
    assert_eq!(map(&space, &file, PAGE, PAGE, Protection::READ), at + PAGE);
    space.store(UserAddr(at + PAGE), &[1]).unwrap();
    space.unmap(at, 2 * PAGE).unwrap();
    assert!(space.load(UserAddr(at), &mut [0]).is_err());
    assert_eq!(load(&space, at + PAGE), 1);
    space.unmap(at + PAGE, PAGE).unwrap();
    assert!(space.load(UserAddr(at + PAGE), &mut [0]).is_err());
    assert_eq!(byte_of(&file, PAGE), 1);
}

#[test]
fn a_page_allows_what_one_of_its_mappings_allows_and_the_only_one_is_obeyed() {
    let world = World::new();
    let file = file(&[7; PAGE as usize]);
    let (one, other) = (world.kernel.memory.new_space(), world.kernel.memory.new_space());
    let at = map(&one, &file, 0, PAGE, WRITE);
    map(&other, &file, 0, PAGE, Protection::READ);
    assert_eq!(load(&other, at), 7);
    assert!(other.store(UserAddr(at), &[1]).is_err(), "nobody has stored to it yet");
    one.store(UserAddr(at), &[1]).unwrap();
    one.protect(at, PAGE, Protection::READ).unwrap();
    drop(other);
    one.protect(at, PAGE, Protection::READ).unwrap();
    assert!(one.store(UserAddr(at), &[2]).is_err());
    one.protect(at, PAGE, Protection::empty()).unwrap();
    assert!(one.load(UserAddr(at), &mut [0]).is_err());
    one.protect(at, PAGE, WRITE).unwrap();
    assert_eq!(load(&one, at), 1);
}

#[test]
fn reads_and_writes_of_the_file_agree_with_its_mappings() {
    let world = World::new();
    let file = file(&[7; 2 * PAGE as usize]);
    let space = world.kernel.memory.new_space();
    let at = map(&space, &file, 0, 2 * PAGE, WRITE);
    space.store(UserAddr(at), &[1]).unwrap();
    assert_eq!(load(&space, at + PAGE), 7);
    let windows = &world.kernel.memory.windows;
    windows.before_access(&*file.file, &(0..1));
    assert_eq!(byte_of(&file, 0), 1);
    file.file.write_at(1, &mut SliceSource::new(&[2])).unwrap();
    windows.after_change(&*file.file, &(1..2));
    assert_eq!((load(&space, at), load(&space, at + 1)), (1, 2));
    file.file.truncate(10).unwrap();
    windows.after_change(&*file.file, &(10..u64::MAX));
    assert!(space.load(UserAddr(at + PAGE), &mut [0]).is_err());
}
