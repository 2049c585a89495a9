//! The receiving end of a lane's queue: a channel for each priority.

use std::task::{Context, Poll};

use futures::executor::block_on;
use futures::future::poll_fn;
use futures::task::noop_waker;
use tokio::sync::mpsc;

use crate::engine::lane::job::Job;
use crate::priority::{ByPriority, Turns};

/// The jobs that wait for a device. Those of requests come first, as [`Turns`] decides.
#[derive(Debug)]
pub(crate) struct Inbox<I, O> {
    jobs: ByPriority<mpsc::Receiver<Job<I, O>>>,
    turns: Turns,
}

impl<I, O> Inbox<I, O> {
    /// Returns the two ends of a queue, in which `capacity` jobs of each priority may wait.
    pub(crate) fn new(capacity: usize) -> (ByPriority<mpsc::Sender<Job<I, O>>>, Self) {
        let (request, requests) = mpsc::channel(capacity);
        let (backlog, of_backlog) = mpsc::channel(capacity);
        let jobs = ByPriority { request: requests, backlog: of_backlog };
        (ByPriority { request, backlog }, Self { jobs, turns: Turns::default() })
    }

    /// Blocks until a job is waiting. Returns `None` if none is, and all senders are dropped.
    pub(crate) fn blocking_recv(&mut self) -> Option<Job<I, O>> {
        block_on(poll_fn(|context| self.poll(context)))
    }

    /// Returns a waiting job, if there is one.
    pub(crate) fn try_recv(&mut self) -> Option<Job<I, O>> {
        match self.poll(&mut Context::from_waker(&noop_waker())) {
            Poll::Ready(job) => job,
            Poll::Pending => None,
        }
    }

    /// Refuses further jobs.
    pub(crate) fn close(&mut self) {
        self.jobs.request.close();
        self.jobs.backlog.close();
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Job<I, O>>> {
        let mut is_open = false;
        for priority in self.turns.order() {
            match self.jobs.get_mut(priority).poll_recv(context) {
                Poll::Ready(Some(job)) => {
                    self.turns.served(priority);
                    return Poll::Ready(Some(job));
                }
                Poll::Ready(None) => {}
                Poll::Pending => is_open = true,
            }
        }
        if is_open { Poll::Pending } else { Poll::Ready(None) }
    }
}
