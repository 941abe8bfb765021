//! Marks, and looking without taking.

use super::*;
use kbase::{SliceSink, SliceSource};

fn ring() -> Ring<u32> {
    let ring = Ring::new(2 * SEGMENT, Arc::default(), Arc::default());
    (ring.state().readers, ring.state().writers) = (1, 1);
    ring
}

fn write(ring: &Ring<u32>, bytes: &[u8], mark: Option<u32>) -> usize {
    ring.write(&mut SliceSource::new(bytes), &mut { mark }).unwrap()
}

fn read(ring: &Ring<u32>, len: usize) -> (Vec<u8>, Option<u32>) {
    let mut bytes = alloc::vec![0; len];
    let (len, mark) = ring.read(&mut SliceSink::new(&mut bytes)).unwrap();
    bytes.truncate(len);
    (bytes, mark)
}

fn peek(ring: &Ring<u32>, len: usize) -> Result<(usize, Option<u32>)> {
    ring.peek(&mut SliceSink::new(&mut alloc::vec![0; len]))
}

#[test]
fn a_read_stops_before_a_mark_and_behind_what_came_with_it() {
    let ring = ring();
    write(&ring, b"ab", None);
    write(&ring, b"cd", Some(7));
    write(&ring, b"ef", None);
    assert_eq!(read(&ring, 9), (b"ab".to_vec(), None));
    assert_eq!(read(&ring, 1), (b"c".to_vec(), Some(7)));
    assert_eq!(read(&ring, 9), (b"def".to_vec(), None));
}

fn read_with(ring: &Ring<u32>, len: usize, marks: Marks) -> (Vec<u8>, Option<u32>) {
    let mut bytes = alloc::vec![0; len];
    let (len, mark) = ring.read_with(&mut SliceSink::new(&mut bytes), marks).unwrap();
    bytes.truncate(len);
    (bytes, mark)
}

#[test]
fn a_packet_ends_a_read_and_its_rest_is_lost() {
    let ring = ring();
    write(&ring, b"ab", None);
    write(&ring, b"cde", Some(7));
    write(&ring, b"fg", Some(8));
    assert_eq!(read_with(&ring, 3, Marks::Packets), (b"abc".to_vec(), Some(7)));
    assert_eq!(ring.state().readable(), 2);
    assert_eq!(read_with(&ring, 9, Marks::Packets), (b"fg".to_vec(), Some(8)));
}

#[test]
fn a_part_of_a_packet_leaves_a_packet() {
    let ring = ring();
    write(&ring, b"abc", Some(7));
    write(&ring, b"de", None);
    assert_eq!(read_with(&ring, 1, Marks::Parts), (b"a".to_vec(), Some(7)));
    assert_eq!(ring.copy(3).unwrap().bytes, b"bcd");
    assert_eq!(read_with(&ring, 9, Marks::Parts), (b"bc".to_vec(), Some(7)));
    assert_eq!(read_with(&ring, 9, Marks::Parts), (b"de".to_vec(), None));
    assert_eq!(ring.copy(3).map(|copied| copied.bytes).unwrap_err().errno(), Errno::EAGAIN);
}

#[test]
fn a_peek_leaves_everything_there() {
    let ring = ring();
    write(&ring, b"ab", None);
    write(&ring, &[1; 5000], None);
    write(&ring, b"cd", Some(7));
    assert_eq!(peek(&ring, 9000).unwrap(), (5002, None));
    assert_eq!(read(&ring, 9000).0.len(), 5002);
    assert_eq!(peek(&ring, 1).unwrap(), (1, Some(7)));
    assert_eq!(read(&ring, 2), (b"cd".to_vec(), Some(7)));
    assert_eq!(peek(&ring, 1).unwrap_err().errno(), Errno::EAGAIN);
    ring.state().writers = 0;
    assert_eq!(peek(&ring, 1).unwrap(), (0, None));
}

fn of_slots(pages: usize) -> Ring<u32> {
    let ring = Ring::of_slots(pages * ATOMIC, Arc::default(), Arc::default());
    (ring.state().readers, ring.state().writers) = (1, 1);
    ring
}

#[test]
fn what_is_moved_takes_the_slots_that_it_had() {
    let (from, to) = (of_slots(16), of_slots(3));
    write(&from, &[1; 100], None);
    write(&from, &[2; 4096], None);
    assert_eq!(to.move_from(&from, 50).unwrap(), 50);
    assert_eq!((to.state().used(), from.state().used()), (4096, 2 * 4096));
    write(&to, b"x", None);
    assert_eq!(to.state().used(), 2 * 4096, "nothing is added to a page that both have");
    assert_eq!(to.move_from(&from, 9000).unwrap(), 50);
    assert_eq!(to.move_from(&from, 9000).unwrap_err().errno(), Errno::EAGAIN, "there is no room");
    assert_eq!(read(&from, 9000).0, [2; 4096]);
    assert_eq!(write(&to, &[3; 3996], None), 3996, "a page that was moved whole takes more");
    assert_eq!(read(&to, 9000).0.len(), 100 + 1 + 3996);
    assert_eq!(to.move_from(&from, 1).unwrap_err().errno(), Errno::EAGAIN, "there is nothing");
    from.state().writers = 0;
    assert_eq!(to.move_from(&from, 1).unwrap(), 0);
}

#[test]
fn a_write_that_a_fault_ends_takes_no_slot() {
    struct Faulty(usize);
    impl ByteSource for Faulty {
        fn remaining(&self) -> usize {
            10_000
        }
        fn take(&mut self, into: &mut [u8]) -> Result<usize> {
            if into.len() > self.0 {
                kbase::bail!(EFAULT, "not readable");
            }
            self.0 -= into.len();
            Ok(into.len())
        }
        fn give_back(&mut self, len: usize) {
            self.0 += len;
        }
    }
    let ring = of_slots(16);
    assert_eq!(ring.write(&mut Faulty(5000), &mut None).unwrap(), 4096);
    assert_eq!(ring.state().used(), 4096);
    assert_eq!(ring.write(&mut Faulty(4000), &mut None).unwrap_err().errno(), Errno::EFAULT);
    let state = ring.state();
    assert_eq!((state.used(), state.readable()), (4096, 4096));
}
