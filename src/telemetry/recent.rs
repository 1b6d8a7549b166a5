//! The last of what each thread did, written without waiting for other threads and read only when somebody asks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::slots::{Slot, Slots};

/// The last values of each thread. Once a thread's are full, remembering one allocates nothing.
#[derive(Debug)]
pub struct Recent<T> {
    most: usize,
    rings: Slots<Mutex<Ring<T>>>,
}

/// The last values of one thread.
#[derive(Debug)]
struct Ring<T> {
    values: Vec<T>,
    /// Where the oldest is, once there are as many as there may be.
    oldest: usize,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { values: Vec::new(), oldest: 0 }
    }
}

impl<T> Ring<T> {
    fn push(&mut self, value: T, most: usize) {
        if self.values.len() < most {
            // At once, and not when a request would have to wait for a larger piece of memory.
            self.values.reserve_exact(most - self.values.len());
            return self.values.push(value);
        }
        if let Some(oldest) = self.values.get_mut(self.oldest) {
            *oldest = value;
            self.oldest = (self.oldest + 1) % most;
        }
    }

    fn newest_first(&self) -> impl Iterator<Item = &T> {
        let (newer, older) = self.values.split_at(self.oldest);
        newer.iter().rev().chain(older.iter().rev())
    }
}

impl<T> Recent<T> {
    /// Remembers so many values of each thread.
    pub fn new(most: usize) -> Self {
        Self { most, rings: Slots::default() }
    }

    /// Remembers one, and forgets the thread's oldest.
    #[inline]
    pub fn push(&self, value: T) {
        if self.most > 0 {
            lock(self.rings.at(Slot::own())).push(value, self.most);
        }
    }

    /// What `pick` takes of each thread's values, the newest first, up to `limit` of each thread. That thread waits meanwhile.
    pub fn pick<R>(&self, limit: usize, mut pick: impl FnMut(&T) -> Option<R>) -> Vec<R> {
        let mut picked = Vec::new();
        for ring in self.rings.written() {
            picked.extend(lock(ring).newest_first().filter_map(&mut pick).take(limit));
        }
        picked
    }
}

fn lock<T>(ring: &Mutex<Ring<T>>) -> MutexGuard<'_, Ring<T>> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn newest(recent: &Recent<u32>, limit: usize) -> Vec<u32> {
        recent.pick(limit, |value| Some(*value))
    }

    #[test]
    fn the_last_are_remembered_and_the_oldest_forgotten() {
        let recent = Recent::new(3);
        assert_eq!(newest(&recent, 9), [0; 0]);
        for (value, kept) in [(1, &[1][..]), (2, &[2, 1]), (3, &[3, 2, 1]), (4, &[4, 3, 2]), (5, &[5, 4, 3]), (6, &[6, 5, 4])] {
            recent.push(value);
            assert_eq!(newest(&recent, 9), kept);
        }
        assert_eq!(newest(&recent, 2), [6, 5]);
        assert_eq!(recent.pick(9, |value| (value % 2 == 0).then_some(value * 10)), [60, 40]);
    }

    #[test]
    fn each_thread_has_its_own_and_all_are_read() {
        let recent = Recent::new(2);
        thread::scope(|scope| {
            for first in [10, 20] {
                let recent = &recent;
                scope.spawn(move || (first..first + 3).for_each(|value| recent.push(value)));
            }
        });
        let mut kept = newest(&recent, 9);
        kept.sort_unstable();
        assert_eq!(kept, [11, 12, 21, 22]);
    }

    #[test]
    fn nothing_is_remembered_where_nothing_may_be() {
        let recent = Recent::new(0);
        recent.push(1);
        assert_eq!(newest(&recent, 9), [0; 0]);
    }
}
