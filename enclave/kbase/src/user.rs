//! Typed user memory.
//!
//! An address is a number until it is used. [`UserSpace`] copies and can fail midway; [`UserPtr`] adds a type;
//! [`ByteSink`] and [`ByteSource`] are what reading and writing files move bytes through, so that a file
//! system copies straight between its pages and user memory. No method returns a reference to user memory, and
//! a value is copied once, then checked.

use crate::{Errno, Error, Result};
use alloc::vec::Vec;
use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An address in user memory, unchecked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// Whether it is the null pointer.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further.
    ///
    /// # Errors
    /// EFAULT the sum overflows.
    pub fn offset(self, bytes: u64) -> Result<Self> {
        self.0.checked_add(bytes).map(Self).ok_or(Error::new(Errno::EFAULT, "the address wraps around"))
    }
}

/// The memory of a program, with demand paging behind it. Implemented by the kernel for a process.
pub trait UserSpace {
    /// Copies from user memory.
    ///
    /// # Errors
    /// EFAULT some byte is not readable by the program; the content of `into` is then unspecified.
    fn load(&self, from: UserAddr, into: &mut [u8]) -> Result<()>;

    /// Copies to user memory.
    ///
    /// # Errors
    /// EFAULT some byte is not writable by the program; bytes before it may have been written.
    fn store(&self, into: UserAddr, from: &[u8]) -> Result<()>;

    /// Zeroes user memory.
    ///
    /// # Errors
    /// EFAULT as [`UserSpace::store`].
    fn zero(&self, into: UserAddr, len: u64) -> Result<()>;

    /// Loads an aligned word atomically.
    ///
    /// # Errors
    /// EFAULT not readable; EINVAL not aligned.
    fn load_u32(&self, from: UserAddr) -> Result<u32>;

    /// Compares and exchanges an aligned word atomically and returns the value found.
    ///
    /// # Errors
    /// EFAULT not writable; EINVAL not aligned.
    fn compare_exchange_u32(&self, at: UserAddr, current: u32, new: u32) -> Result<u32>;

    /// Copies a string up to and without its NUL.
    ///
    /// # Errors
    /// EFAULT not readable; ENAMETOOLONG no NUL within `max` bytes.
    fn load_c_string(&self, from: UserAddr, max: usize) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        let mut at = from;
        loop {
            // Never read over a page border that the string may not reach.
            let room = 4096 - usize::try_from(at.0 % 4096).unwrap_or(0);
            let mut chunk = [0u8; 256];
            let part = chunk.get_mut(..room.min(256)).unwrap_or_default();
            self.load(at, part)?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                string.extend_from_slice(part.get(..end).unwrap_or_default());
                if string.len() > max {
                    crate::bail!(ENAMETOOLONG, "the string is too long");
                }
                return Ok(string);
            }
            string.extend_from_slice(part);
            if string.len() > max {
                crate::bail!(ENAMETOOLONG, "the string is too long");
            }
            at = at.offset(part.len() as u64)?;
        }
    }
}

/// A pointer to a plain value in user memory.
#[derive(Debug)]
pub struct UserPtr<T> {
    address: UserAddr,
    _type: PhantomData<T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for UserPtr<T> {}

impl<T> UserPtr<T> {
    /// A pointer; nothing is checked until it is used.
    #[must_use]
    pub const fn new(address: UserAddr) -> Self {
        Self { address, _type: PhantomData }
    }

    /// Where it points.
    #[must_use]
    pub const fn address(self) -> UserAddr {
        self.address
    }

    /// `None` if it is null.
    #[must_use]
    pub fn non_null(self) -> Option<Self> {
        (!self.address.is_null()).then_some(self)
    }

    /// The pointer to element `index` of an array that starts here.
    ///
    /// # Errors
    /// EFAULT the address overflows.
    pub fn index(self, index: u64) -> Result<Self> {
        let offset = index
            .checked_mul(size_of::<T>() as u64)
            .ok_or(Error::new(Errno::EFAULT, "the array wraps around"))?;
        Ok(Self::new(self.address.offset(offset)?))
    }
}

impl<T: FromBytes + IntoBytes + Immutable> UserPtr<T> {
    /// Copies the value in.
    ///
    /// # Errors
    /// EFAULT not readable.
    pub fn read(self, space: &dyn UserSpace) -> Result<T> {
        let mut value = T::new_zeroed();
        space.load(self.address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies the value out.
    ///
    /// # Errors
    /// EFAULT not writable.
    pub fn write(self, space: &dyn UserSpace, value: &T) -> Result<()> {
        space.store(self.address, value.as_bytes())
    }
}

/// Where bytes that are read go.
pub trait ByteSink {
    /// Bytes that still fit.
    fn remaining(&self) -> usize;

    /// Takes as many of `bytes` as fit and returns their number.
    ///
    /// # Errors
    /// EFAULT the memory is not writable and nothing was taken by this call.
    fn put(&mut self, bytes: &[u8]) -> Result<usize>;

    /// Takes `len` zero bytes or as many as fit.
    ///
    /// # Errors
    /// As [`ByteSink::put`].
    fn put_zeros(&mut self, len: usize) -> Result<usize> {
        const ZEROS: [u8; 512] = [0; 512];
        let mut done = 0;
        while done < len && self.remaining() > 0 {
            let part = (len - done).min(ZEROS.len());
            done += self.put(ZEROS.get(..part).unwrap_or_default())?;
        }
        Ok(done)
    }
}

/// Where bytes that are written come from.
pub trait ByteSource {
    /// Bytes that are left.
    fn remaining(&self) -> usize;

    /// Fills as much of `into` as is left and returns the number of bytes.
    ///
    /// # Errors
    /// EFAULT the memory is not readable and nothing was taken by this call.
    fn take(&mut self, into: &mut [u8]) -> Result<usize>;

    /// Gives back the last `len` bytes that were taken, to be taken again.
    fn give_back(&mut self, len: usize);
}

/// A sink into kernel memory.
#[derive(Debug)]
pub struct SliceSink<'a> {
    into: &'a mut [u8],
    done: usize,
}

impl<'a> SliceSink<'a> {
    /// A sink that fills `into` from its start.
    #[must_use]
    pub const fn new(into: &'a mut [u8]) -> Self {
        Self { into, done: 0 }
    }

    /// Bytes taken so far.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }
}

impl ByteSink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.into.len() - self.done
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let rest = self.into.get_mut(self.done..).unwrap_or_default();
        let len = rest.len().min(bytes.len());
        if let (Some(to), Some(from)) = (rest.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.done += len;
        Ok(len)
    }
}

/// A source from kernel memory.
#[derive(Debug)]
pub struct SliceSource<'a> {
    from: &'a [u8],
    done: usize,
}

impl<'a> SliceSource<'a> {
    /// A source of all of `from`.
    #[must_use]
    pub const fn new(from: &'a [u8]) -> Self {
        Self { from, done: 0 }
    }
}

impl ByteSource for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.from.len() - self.done
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        let rest = self.from.get(self.done..).unwrap_or_default();
        let len = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        self.done += len;
        Ok(len)
    }

    fn give_back(&mut self, len: usize) {
        self.done = self.done.saturating_sub(len);
    }
}

/// The next bytes of a source.
pub struct Part<'a> {
    of: &'a mut dyn ByteSource,
    left: usize,
}

impl<'a> Part<'a> {
    /// At most `left` bytes of a source.
    #[must_use]
    pub fn new(of: &'a mut dyn ByteSource, left: usize) -> Self {
        Self { of, left }
    }
}

impl ByteSource for Part<'_> {
    fn remaining(&self) -> usize {
        self.left.min(self.of.remaining())
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        let len = into.len().min(self.left);
        let taken = self.of.take(into.get_mut(..len).unwrap_or_default())?;
        self.left = self.left.saturating_sub(taken);
        Ok(taken)
    }

    fn give_back(&mut self, len: usize) {
        self.left = self.left.saturating_add(len);
        self.of.give_back(len);
    }
}

/// A sink into one or more buffers of user memory (`read`, `readv`).
pub struct UserSink<'a> {
    space: &'a dyn UserSpace,
    buffers: Vec<(UserAddr, usize)>,
    next: usize,
    remaining: usize,
    done: usize,
}

impl<'a> UserSink<'a> {
    /// A sink into one buffer. Nothing is touched before the first byte is put.
    #[must_use]
    pub fn new(space: &'a dyn UserSpace, address: UserAddr, len: usize) -> Self {
        Self::vectored(space, alloc::vec![(address, len)])
    }

    /// A sink into several buffers, in order.
    #[must_use]
    pub fn vectored(space: &'a dyn UserSpace, buffers: Vec<(UserAddr, usize)>) -> Self {
        let remaining = buffers.iter().fold(0usize, |sum, &(_, len)| sum.saturating_add(len));
        Self { space, buffers, next: 0, remaining, done: 0 }
    }

    /// Bytes taken so far.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }
}

impl ByteSink for UserSink<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((address, len)) = self.buffers.get_mut(self.next) else { break };
            if *len == 0 {
                self.next += 1;
                continue;
            }
            let (head, tail) = rest.split_at((*len).min(rest.len()));
            if let Err(error) = self.space.store(*address, head) {
                // What was taken before counts, as for Linux's partial reads.
                return if rest.len() < bytes.len() { Ok(bytes.len() - rest.len()) } else { Err(error) };
            }
            *address = address.offset(head.len() as u64)?;
            *len -= head.len();
            self.remaining -= head.len();
            self.done += head.len();
            rest = tail;
        }
        Ok(bytes.len() - rest.len())
    }
}

/// A source from one or more buffers of user memory (`write`, `writev`).
pub struct UserSource<'a> {
    space: &'a dyn UserSpace,
    buffers: Vec<(UserAddr, usize)>,
    /// The buffer that the next byte is in, and its place there.
    next: usize,
    offset: usize,
    remaining: usize,
}

impl<'a> UserSource<'a> {
    /// A source of one buffer. Nothing is touched before the first byte is taken.
    #[must_use]
    pub fn new(space: &'a dyn UserSpace, address: UserAddr, len: usize) -> Self {
        Self::vectored(space, alloc::vec![(address, len)])
    }

    /// A source of several buffers, in order.
    #[must_use]
    pub fn vectored(space: &'a dyn UserSpace, buffers: Vec<(UserAddr, usize)>) -> Self {
        let remaining = buffers.iter().fold(0usize, |sum, &(_, len)| sum.saturating_add(len));
        Self { space, buffers, next: 0, offset: 0, remaining }
    }
}

impl ByteSource for UserSource<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let Some(&(address, len)) = self.buffers.get(self.next) else { break };
            let left = len.saturating_sub(self.offset);
            if left == 0 {
                self.next += 1;
                self.offset = 0;
                continue;
            }
            let part = left.min(into.len() - done);
            let Some(to) = into.get_mut(done..done + part) else { break };
            let loaded = address.offset(self.offset as u64).and_then(|address| self.space.load(address, to));
            if let Err(error) = loaded {
                return if done > 0 { Ok(done) } else { Err(error) };
            }
            self.offset += part;
            self.remaining -= part;
            done += part;
        }
        Ok(done)
    }

    fn give_back(&mut self, len: usize) {
        let mut left = len;
        while left > 0 {
            if self.offset == 0 {
                let Some(previous) = self.next.checked_sub(1) else { break };
                self.next = previous;
                self.offset = self.buffers.get(previous).map_or(0, |&(_, len)| len);
                continue;
            }
            let part = left.min(self.offset);
            self.offset -= part;
            self.remaining += part;
            left -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Sixteen bytes at address 0.
    struct Small(RefCell<[u8; 16]>);

    impl UserSpace for Small {
        fn load(&self, from: UserAddr, into: &mut [u8]) -> Result<()> {
            let start = from.0 as usize;
            let memory = self.0.borrow();
            let part = memory.get(start..start + into.len()).ok_or(Error::new(Errno::EFAULT, "outside"))?;
            into.copy_from_slice(part);
            Ok(())
        }
        fn store(&self, into: UserAddr, from: &[u8]) -> Result<()> {
            let start = into.0 as usize;
            let mut memory = self.0.borrow_mut();
            let part =
                memory.get_mut(start..start + from.len()).ok_or(Error::new(Errno::EFAULT, "outside"))?;
            part.copy_from_slice(from);
            Ok(())
        }
        fn zero(&self, into: UserAddr, len: u64) -> Result<()> {
            self.store(into, &vec![0; len as usize])
        }
        fn load_u32(&self, _: UserAddr) -> Result<u32> {
            Ok(0)
        }
        fn compare_exchange_u32(&self, _: UserAddr, _: u32, _: u32) -> Result<u32> {
            Ok(0)
        }
    }

    #[test]
    fn a_sink_goes_through_its_buffers_in_order_and_stops_when_full() {
        let space = Small(RefCell::new([0; 16]));
        let mut sink = UserSink::vectored(&space, vec![(UserAddr(8), 2), (UserAddr(0), 0), (UserAddr(0), 3)]);
        assert_eq!(sink.put(b"abc").unwrap(), 3);
        assert_eq!(sink.put(b"defg").unwrap(), 2);
        assert_eq!(&space.0.borrow()[..3], b"cde");
        assert_eq!(&space.0.borrow()[8..10], b"ab");
    }

    #[test]
    fn what_a_source_gets_back_is_taken_again() {
        let space = Small(RefCell::new(*b"0123456789abcdef"));
        let buffers = vec![(UserAddr(8), 2), (UserAddr(0), 0), (UserAddr(0), 3)];
        let mut source = UserSource::vectored(&space, buffers);
        let mut into = [0; 8];
        assert_eq!(source.take(&mut into[..4]).unwrap(), 4);
        assert_eq!(&into[..4], b"8901");
        source.give_back(3);
        assert_eq!(source.remaining(), 4);
        assert_eq!(source.take(&mut into).unwrap(), 4);
        assert_eq!(&into[..4], b"9012");
        source.give_back(99);
        assert_eq!(source.remaining(), 5);

        let mut source = SliceSource::new(b"abc");
        assert_eq!(source.take(&mut into).unwrap(), 3);
        source.give_back(2);
        assert_eq!(source.take(&mut into).unwrap(), 2);
        assert_eq!(&into[..2], b"bc");
    }

    #[test]
    fn a_fault_after_some_bytes_is_a_short_count() {
        let space = Small(RefCell::new([0; 16]));
        let mut sink = UserSink::vectored(&space, vec![(UserAddr(0), 2), (UserAddr(99), 3)]);
        assert_eq!(sink.put(b"abcd").unwrap(), 2);
        assert_eq!(sink.put(b"cd").unwrap_err().errno(), Errno::EFAULT);
    }

    #[test]
    fn typed_values_round_trip() {
        let space = Small(RefCell::new([0; 16]));
        let pointer = UserPtr::<u64>::new(UserAddr(8));
        pointer.write(&space, &0x1122_3344).unwrap();
        assert_eq!(pointer.read(&space).unwrap(), 0x1122_3344);
        assert_eq!(pointer.index(1).unwrap().read(&space).unwrap_err().errno(), Errno::EFAULT);
    }

    #[test]
    fn a_part_ends_before_its_source_and_takes_back_what_was_not_used() {
        let mut source = SliceSource::new(b"0123456789");
        let mut part = Part::new(&mut source, 6);
        let mut bytes = [0; 4];
        assert_eq!((part.remaining(), part.take(&mut bytes).unwrap()), (6, 4));
        part.give_back(1);
        assert_eq!((part.remaining(), part.take(&mut bytes).unwrap()), (3, 3));
        assert_eq!(bytes[..3], *b"345");
        assert_eq!(part.take(&mut bytes).unwrap(), 0);
        assert_eq!(source.remaining(), 4);
    }
}
