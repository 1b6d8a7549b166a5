//! How many bytes of single requests may be in memory at once, over all connections: bodies that are kept, and answers that are not yet taken.
//!
//! Copies that answer everybody are not among them: they are bounded where they are kept, and reading one needs no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Room for so many bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    taken: Arc<AtomicUsize>,
    size: usize,
}

/// A part of the room, which is given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    room: Room,
    bytes: usize,
}

/// Bytes, and the room that they take.
struct Kept {
    bytes: Bytes,
    _held: Held,
}

impl Room {
    /// An empty room.
    pub fn new(size: usize) -> Self {
        Self { taken: Arc::default(), size }
    }

    /// How many bytes of it are taken; more than its size, where what was paid for had to be kept.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether not one more byte finds room.
    pub fn is_full(&self) -> bool {
        self.taken() >= self.size
    }

    /// Takes so many bytes, if there is room.
    pub fn take(&self, bytes: usize) -> Option<Held> {
        let mut held = Held { room: self.clone(), bytes: 0 };
        held.grow(bytes).then_some(held)
    }

    /// Takes so many bytes, also beyond the room's size: for what cannot be refused any more.
    pub fn take_anyway(&self, bytes: usize) -> Held {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Held { room: self.clone(), bytes }
    }
}

impl Held {
    /// Takes so many more, if there is room.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let within = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= self.room.size);
        let grown = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }

    /// Bytes that take this part of the room for as long as any clone or slice of them is there: an answer's until the socket has taken
    /// the last of them.
    pub fn around(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_once() {
        let room = Room::new(10);
        let mut held = room.take(4).expect("there is room");
        assert!(held.grow(6) && !held.grow(1) && room.is_full());
        assert!(room.take(1).is_none());
        let forced = room.take_anyway(5);
        assert_eq!(room.taken(), 15);
        drop(forced);
        drop(held);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn bytes_take_room_until_their_last_slice_is_gone() {
        let room = Room::new(10);
        let bytes = room.take(5).expect("there is room").around(Bytes::from_static(b"12345"));
        let slice = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((room.taken(), &slice[..]), (5, &b"23"[..]));
        drop(slice);
        assert_eq!(room.taken(), 0);
    }
}
