//! What each thread writes in a place of its own, so that none of them waits for another's cache line.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads beyond so many share slots, which costs them time and nothing else.
const SLOTS: usize = 64;

/// A thread that has none yet.
const NONE: usize = usize::MAX;

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(NONE) };
}

/// The calling thread's slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(usize);

impl Slot {
    /// The same in each call of a thread, and in all [`Slots`].
    #[inline]
    pub(super) fn own() -> Self {
        let own = OWN.get();
        Self(if own == NONE { Self::take() } else { own })
    }

    /// Gives the calling thread the first slot, which no thread gets that does not ask for it.
    pub(super) fn take_first() {
        OWN.set(0);
    }

    #[cold]
    fn take() -> usize {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let slot = 1 + TAKEN.fetch_add(1, Ordering::Relaxed) % (SLOTS - 1);
        OWN.set(slot);
        slot
    }
}

/// One `T` for each slot, made when it is first written to.
#[derive(Debug)]
pub(super) struct Slots<T>([OnceLock<Box<Apart<T>>>; SLOTS]);

/// On cache lines of its own; two, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; SLOTS])
    }
}

impl<T: Default> Slots<T> {
    /// What stands in a slot.
    #[inline]
    pub(super) fn at(&self, slot: Slot) -> &T {
        &self.0[slot.0].get_or_init(Box::default).0
    }

    /// Every slot's, also of those that nobody has written to.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        (0..SLOTS).map(|slot| self.at(Slot(slot)))
    }

    /// All that was ever written to.
    pub(super) fn written(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|apart| &apart.0)
    }
}
