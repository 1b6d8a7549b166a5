//! How long a server that failed is left alone: hardly at first, since most failures are one slow answer, and for longer with each that follows.

use std::time::Duration;

use tokio::time::Instant;

use super::super::keeper::RETRY;

/// After the first failure.
const SHORTEST: Duration = Duration::from_millis(25);

/// Until when it is left alone, and why.
pub(super) struct Pause {
    until: Instant,
    length: Duration,
    pub(super) why: String,
}

impl Pause {
    /// After a failure that follows one with the pause `before`, or none.
    pub(super) fn after(before: Option<&Self>, why: String) -> Self {
        let length = before.map_or(SHORTEST, |before| (before.length * 2).min(RETRY));
        Self { until: Instant::now() + length, length, why }
    }

    /// What is left of it.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_pause_in_a_row_is_twice_as_long_up_to_a_second() {
        let mut lengths = Vec::new();
        let mut pause = Pause::after(None, String::new());
        for _ in 0..8 {
            lengths.push(pause.left().as_millis());
            pause = Pause::after(Some(&pause), String::new());
        }
        assert_eq!(lengths, [25, 50, 100, 200, 400, 800, 1_000, 1_000]);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(pause.left().as_millis(), 1);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(pause.left(), Duration::ZERO);
    }
}
