//! Single flight: of all who want the same thing at once, one fetches it and the others get what it got.
//!
//! The leader's work runs in a task of its own and ends by [`Lead::land`]. A leader that is dropped before (a panic, a
//! stopped runtime) leaves its followers with [`Crashed`], and the key free: nobody repeats the work on its behalf.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Aloft<K, T> = HashMap<K, watch::Receiver<Option<T>>>;

/// The flights under way. Each was begun by a connection's request or takes a place for renewals; both are limited.
#[derive(Debug)]
pub struct Flights<K, T>(Arc<Mutex<Aloft<K, T>>>);

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A place on a flight.
#[derive(Debug)]
pub enum Seat<K: Eq + Hash, T> {
    /// The first: does the work.
    Lead(Lead<K, T>),
    /// A later one: waits for it.
    Follow(Follow<T>),
}

/// The duty to do the work and to land.
#[derive(Debug)]
pub struct Lead<K: Eq + Hash, T> {
    flights: Flights<K, T>,
    /// None once the flight has ended.
    key: Option<K>,
    sender: watch::Sender<Option<T>>,
}

/// A wait for somebody else's work.
#[derive(Clone, Debug)]
pub struct Follow<T> {
    flight: watch::Receiver<Option<T>>,
    is_joined: bool,
}

/// The leader ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work that was waited for ended without a result")]
pub struct Crashed;

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    /// Leads the key's flight if none is under way, else follows it.
    pub fn board(&self, key: &K) -> Seat<K, T> {
        let mut aloft = self.aloft();
        if let Some(flight) = aloft.get(key) {
            return Seat::Follow(Follow::joined(flight));
        }
        Seat::Lead(self.begin(&mut aloft, key))
    }

    /// Leads the flights of all these keys, which differ; of none, if one is under way. All are boarded in one step, so that who
    /// wants several never waits for one while leading another.
    pub fn lead_all(&self, keys: &[K]) -> Option<Vec<Lead<K, T>>> {
        let mut aloft = self.aloft();
        if keys.iter().any(|key| aloft.contains_key(key)) {
            return None;
        }
        Some(keys.iter().map(|key| self.begin(&mut aloft, key)).collect())
    }

    fn begin(&self, aloft: &mut Aloft<K, T>, key: &K) -> Lead<K, T> {
        let (sender, receiver) = watch::channel(None);
        aloft.insert(key.clone(), receiver);
        Lead { flights: self.clone(), key: Some(key.clone()), sender }
    }

    /// Follows the key's flight if one is under way.
    pub fn follow(&self, key: &K) -> Option<Follow<T>> {
        self.aloft().get(key).map(Follow::joined)
    }
}

impl<K, T> Flights<K, T> {
    fn aloft(&self) -> MutexGuard<'_, Aloft<K, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, T> Lead<K, T> {
    /// A wait for this very flight, for the caller who began it and whose connection may end before it does.
    pub fn follow(&self) -> Follow<T> {
        Follow { flight: self.sender.subscribe(), is_joined: false }
    }

    /// Ends the flight: all who follow get `result`, and whoever boards after that leads a new one.
    pub fn land(mut self, result: T) {
        self.free_key();
        self.sender.send_replace(Some(result));
    }

    fn free_key(&mut self) {
        if let Some(key) = self.key.take() {
            self.flights.aloft().remove(&key);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Lead<K, T> {
    fn drop(&mut self) {
        self.free_key();
    }
}

impl<T> Follow<T> {
    fn joined(flight: &watch::Receiver<Option<T>>) -> Self {
        Self { flight: flight.clone(), is_joined: true }
    }

    /// Whether somebody else began it.
    pub fn is_joined(&self) -> bool {
        self.is_joined
    }
}

impl<T: Clone> Follow<T> {
    /// Waits until the flight ends.
    pub async fn landed(mut self) -> Result<T, Crashed> {
        let result = self.flight.wait_for(Option::is_some).await.map_err(|_| Crashed)?;
        result.clone().ok_or(Crashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Flights<u8, u8>) -> Lead<u8, u8> {
        match flights.board(&1) {
            Seat::Lead(lead) => lead,
            Seat::Follow(_) => panic!("a flight is under way"),
        }
    }

    #[tokio::test]
    async fn all_who_come_while_one_leads_get_its_result() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let Seat::Follow(follower) = flights.board(&1) else { panic!("two leaders") };
        let own = leader.follow();
        leader.land(7);
        assert_eq!((follower.landed().await, own.landed().await), (Ok(7), Ok(7)));
        assert!(flights.follow(&1).is_none(), "the key is free again");
    }

    #[tokio::test]
    async fn several_flights_are_led_together_or_not_at_all() {
        let flights = Flights::<u8, u8>::default();
        let leader = lead(&flights);
        assert!(flights.lead_all(&[0, 1]).is_none());
        assert!(flights.follow(&0).is_none(), "nothing was boarded");
        leader.land(7);
        let leads = flights.lead_all(&[0, 1]).expect("nothing is under way");
        let follower = flights.follow(&0).expect("under way");
        for lead in leads {
            lead.land(8);
        }
        assert_eq!(follower.landed().await, Ok(8));
        drop(flights.lead_all(&[1, 0]).expect("the keys are free again"));
    }

    #[tokio::test]
    async fn who_hears_of_a_landing_finds_the_key_free() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let follower = leader.follow();
        // Between the result and the end of the leader nobody may board the flight that has ended.
        let heard = std::thread::spawn(move || leader.land(7));
        assert_eq!(follower.landed().await, Ok(7));
        drop(lead(&flights));
        heard.join().expect("nothing panics");
    }

    #[tokio::test]
    async fn a_leader_that_crashes_frees_the_key_and_tells_its_followers() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let follower = flights.follow(&1).expect("under way");
        drop(leader);
        assert_eq!(follower.landed().await, Err(Crashed));
        drop(lead(&flights));
    }
}
