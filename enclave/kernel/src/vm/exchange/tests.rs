//! Random groups of spaces, compared with plain maps of bytes.

use super::*;
use crate::testing::World;
use crate::vm::{MapRequest, Place};
use kbase::{UserAddr, UserSpace};

const PRIVATE: u64 = 0x4000_0000;
const SMALL: u64 = 0x4100_0000;
const SHARED: u64 = 0x4200_0000;
const WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// What one space shall hold: the first byte of each page, or `None` where nothing is mapped.
#[derive(Clone)]
struct Model {
    space: Arc<AddressSpace>,
    bytes: BTreeMap<u64, Option<u8>>,
    is_read_only: BTreeMap<u64, bool>,
    has_shared: [bool; 4],
}

fn map(space: &AddressSpace, at: u64, len: u64, is_shared: bool) {
    let request =
        MapRequest { protection: WRITE, is_shared, ..MapRequest::reservation(Place::Fixed(at), len) };
    space.map(request).unwrap();
}

fn load(space: &AddressSpace, at: u64) -> Option<u8> {
    let mut byte = [0];
    space.load(UserAddr(at), &mut byte).is_ok().then_some(byte[0])
}

fn inside<T>(space: &Arc<AddressSpace>, act: impl FnOnce() -> T) -> T {
    assert!(space.try_enter());
    let value = act();
    space.leave();
    value
}

/// Nobody relies on a private page of the resident space that this may store to.
fn assert_relied_on_is_held(resident: &AddressSpace, models: &[Model]) {
    let in_place = resident.state.lock();
    for model in models.iter().filter(|model| model.space.id() != resident.id()) {
        let state = model.space.state.lock();
        let mut rest = pages(&resident.range);
        while let Some(run) = state.committed.next_run(rest.clone()) {
            rest.start = run.end;
            for page in run.filter(|&page| state.relies_on(page)) {
                assert!(in_place.committed.has(page), "{page:#x} is in place");
                let (_, vma) = in_place.map.find(page * PAGE_SIZE).unwrap();
                assert!(is_relied_on(&in_place.held, page, vma), "{page:#x} is held");
            }
        }
    }
}

/// Random forks, stores, unmappings, protections and ends in a group, each space compared with a plain map of bytes.
#[test]
fn spaces_of_a_group_never_see_each_others_private_memory_and_always_the_shared() {
    for seed in 1..=40u64 {
        run(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

fn run(mut random: u64) {
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let world = World::new();
    let first = world.kernel.memory.new_space();
    let mut shared = [0u8; 4];
    inside(&first, || {
        map(&first, PRIVATE, 100 * PAGE_SIZE, false);
        map(&first, SMALL, 4 * PAGE_SIZE, false);
        map(&first, SHARED, 4 * PAGE_SIZE, true);
    });
    let pages = (0..100).map(|n| PRIVATE + n * PAGE_SIZE).chain((0..4).map(|n| SMALL + n * PAGE_SIZE));
    let bytes: BTreeMap<u64, Option<u8>> = pages.map(|at| (at, Some(0))).collect();
    let mut models =
        vec![Model { space: first, bytes, is_read_only: BTreeMap::new(), has_shared: [true; 4] }];
    for round in 0..400u64 {
        let count = models.len() as u64;
        let index = next(count) as usize;
        let value = (round % 251) as u8 + 1;
        let space = models[index].space.clone();
        let keys: Vec<u64> = models[index].bytes.keys().copied().collect();
        let at = keys[next(keys.len() as u64) as usize];
        let slot = next(4) as usize;
        match next(12) {
            0 if count < 5 => {
                let child = inside(&space, || space.fork().unwrap());
                let model = Model { space: child, ..models[index].clone() };
                models.push(model);
            }
            1 if count > 1 => {
                if next(2) == 0 {
                    inside(&space, || space.end());
                }
                drop(models.swap_remove(index));
            }
            2 => {
                inside(&space, || space.unmap(at, PAGE_SIZE).unwrap());
                models[index].bytes.insert(at, None);
                models[index].is_read_only.remove(&at);
            }
            3 => {
                inside(&space, || map(&space, at, PAGE_SIZE, false));
                models[index].bytes.insert(at, Some(0));
                models[index].is_read_only.remove(&at);
            }
            4 if models[index].bytes[&at].is_some() => {
                let is_read_only = next(2) == 0;
                let protection = if is_read_only { Protection::READ } else { WRITE };
                inside(&space, || space.protect(at, PAGE_SIZE, protection).unwrap());
                models[index].is_read_only.insert(at, is_read_only);
            }
            5 if models[index].has_shared[slot] => {
                let there = SHARED + slot as u64 * PAGE_SIZE;
                inside(&space, || space.store(UserAddr(there), &[value]).unwrap());
                shared[slot] = value;
            }
            6 if next(4) == 0 => {
                let there = SHARED + slot as u64 * PAGE_SIZE;
                inside(&space, || space.unmap(there, PAGE_SIZE).unwrap());
                models[index].has_shared[slot] = false;
            }
            _ => {
                let is_stored = inside(&space, || space.store(UserAddr(at), &[value]).is_ok());
                let model = &mut models[index];
                let may = model.bytes[&at].is_some() && !model.is_read_only.get(&at).is_some_and(|&ro| ro);
                assert_eq!(is_stored, may, "round {round}");
                if may {
                    model.bytes.insert(at, Some(value));
                }
            }
        }
        let checked = &models[next(models.len() as u64) as usize];
        inside(&checked.space, || {
            assert_relied_on_is_held(&checked.space, &models);
            for (&at, &byte) in &checked.bytes {
                assert_eq!(load(&checked.space, at), byte, "round {round}, {at:#x}");
            }
            for (slot, &has) in checked.has_shared.iter().enumerate() {
                let byte = load(&checked.space, SHARED + slot as u64 * PAGE_SIZE);
                assert_eq!(byte, has.then_some(shared[slot]), "round {round}, shared {slot}");
            }
        });
    }
    let copied = models[0].space.backend.copied.clone();
    drop(models);
    assert_eq!(copied.load(Ordering::Relaxed), 0);
    assert_eq!(world.pages_in_use(), 0);
}
