//! What a task waits for beside its work, without asking about it each time that there is work.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that is polled when it was woken itself, and not with everything else that its task does: the connection's events come once, and its
/// requests by the thousand.
#[derive(Debug)]
pub(super) struct Aside<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
    /// The task that the bell wakes.
    task: Option<Waker>,
}

/// Rung when the future is to be polled.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Aside<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&bell)), bell, task: None }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            this.bell.task.register(cx.waker());
            this.task = Some(cx.waker().clone());
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

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_once_until_it_is_woken_and_then_wakes_its_task() {
        let (sender, mut receiver) = oneshot::channel::<u8>();
        let mut polls = 0;
        let mut aside = pin!(Aside::new(poll_fn(|cx| {
            polls += 1;
            Pin::new(&mut receiver).poll(cx)
        })));
        for _ in 0..100 {
            assert!(poll_fn(|cx| Poll::Ready(aside.as_mut().poll(cx))).await.is_pending());
        }
        let other = tokio::spawn(async move { sender.send(7) });
        assert_eq!(aside.as_mut().await, Ok(7));
        assert_eq!((other.await.expect("nothing panics"), polls), (Ok(()), 2));
    }
}
