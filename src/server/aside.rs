//! What a task waits for beside its work, without asking about it each time that there is work.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled when it was woken itself, and not with everything else that its task does: the connection's events come once, and its
/// requests by the thousand.
#[derive(Debug)]
pub(super) struct Aside<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
    /// The task that the bell wakes, known here without asking the bell.
    task: Option<Waker>,
}

/// Rung when the future is to be polled.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> Aside<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&bell)), bell, task: None }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.task = Some(cx.waker().clone());
            *this.bell.task() = Some(cx.waker().clone());
        }
        // Rung after this look, it wakes the task.
        if !this.bell.rung.load(Ordering::Acquire) || !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_as_often_as_it_is_woken_and_wakes_its_task_each_time() {
        const EVENTS: usize = 3;
        let (sender, mut receiver) = mpsc::channel(1);
        let (mut polls, mut events_seen) = (0, 0);
        let mut aside = pin!(Aside::new(poll_fn(|cx| {
            polls += 1;
            while let Poll::Ready(event) = receiver.poll_recv(cx) {
                match event {
                    Some(()) => events_seen += 1,
                    None => return Poll::Ready(()),
                }
            }
            Poll::Pending
        })));
        for _ in 0..100 {
            assert!(poll_fn(|cx| Poll::Ready(aside.as_mut().poll(cx))).await.is_pending());
        }
        let events = tokio::spawn(async move {
            for _ in 0..EVENTS {
                sender.send(()).await.expect("it waits");
                tokio::task::yield_now().await;
            }
        });
        aside.await;
        events.await.expect("nothing panics");
        assert_eq!((events_seen, polls), (EVENTS, 1 + EVENTS + 1), "the first time, for each event, and for the end");
    }
}
