//! The operations that are outstanding.

use alloc::vec::Vec;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data.
    Receive,
    /// To send so much of a send buffer.
    Send {
        /// Its number.
        buffer: u16,
        /// Bytes.
        len: u32,
    },
    /// To tell when there is room.
    AwaitRoom,
    /// To end others, or to close: nobody waits for the answer.
    End,
}

/// A place of the table.
struct Place {
    /// How often it was used. A completion names it.
    generation: u32,
    /// What is outstanding, and the token of its socket.
    now: Option<(Kind, u64)>,
}

/// The table.
pub(super) struct Operations {
    places: Vec<Place>,
    free: Vec<u32>,
    most: u32,
}

impl Operations {
    /// Room for so many.
    pub(super) const fn new(most: u32) -> Self {
        Self { places: Vec::new(), free: Vec::new(), most }
    }

    /// How many more there can be.
    pub(super) fn room(&self) -> usize {
        (self.most as usize).saturating_sub(self.places.len()).saturating_add(self.free.len())
    }

    /// Begins one: the user data; `None`: there are too many.
    pub(super) fn begin(&mut self, kind: Kind, token: u64) -> Option<u64> {
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.places.len() < self.most as usize => {
                self.places.push(Place { generation: 0, now: None });
                self.places.len() as u32 - 1
            }
            None => return None,
        };
        let place = self.places.get_mut(at as usize)?;
        place.now = Some((kind, token));
        Some(u64::from(place.generation) << 32 | u64::from(at))
    }

    /// Ends the one of some user data, and gives what it was; `None`: none that is outstanding has these.
    pub(super) fn end(&mut self, user_data: u64) -> Option<(Kind, u64)> {
        let at = user_data as u32;
        let place = self.places.get_mut(at as usize)?;
        if u64::from(place.generation) != user_data >> 32 {
            return None;
        }
        let ended = place.now.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(at);
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_and_an_old_one_never() {
        let mut operations = Operations::new(2);
        let first = operations.begin(Kind::Receive, 7).unwrap();
        assert_eq!(operations.end(first ^ 1 << 32), None);
        assert_eq!(operations.end(first), Some((Kind::Receive, 7)));
        assert_eq!(operations.end(first), None);
        let again = operations.begin(Kind::AwaitRoom, 8).unwrap();
        assert_eq!(again as u32, first as u32, "the place is used again");
        assert_eq!(operations.end(first), None);
        assert_eq!(operations.end(u64::MAX), None);
        assert_eq!(operations.room(), 1);
        assert!(operations.begin(Kind::End, 0).is_some());
        assert_eq!((operations.room(), operations.begin(Kind::End, 0)), (0, None));
        assert_eq!(operations.end(again), Some((Kind::AwaitRoom, 8)));
    }
}
