//! Threads of the program's own for work that blocks, created at start: later a limit on processes may refuse them.
//!
//! Entry point: [`Worker::start`]. Independent of what is done there.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

type Task = Box<dyn FnOnce() + Send>;

/// A thread that runs one function after another, in the order in which they were given.
///
/// It ends when its handles are dropped and what was given is done.
#[derive(Clone, Debug)]
pub struct Worker {
    tasks: Sender<Task>,
    turn: Arc<Mutex<()>>,
}

/// The right to have one function run on a [`Worker`].
///
/// Whoever waits for it is not in the worker's queue: if it goes away, nothing of it stays behind.
#[derive(Debug)]
pub struct Turn {
    worker: Worker,
    held: OwnedMutexGuard<()>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system refuses another thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let (tasks, waiting) = channel::<Task>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for task in waiting {
                task();
            }
        })?;
        Ok(Self { tasks, turn: Arc::default() })
    }

    /// Gives the thread a function to run, and does not wait for it.
    pub fn submit(&self, function: impl FnOnce() + Send + 'static) {
        self.tasks.send(Box::new(function)).expect("the thread lives as long as a handle");
    }

    /// Runs a function there and returns its result. It runs also if the caller goes away. A panic continues in the caller.
    pub async fn run<T: Send + 'static>(&self, function: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, finished) = oneshot::channel();
        let task = move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(function));
            // Nobody may wait any more.
            let _: Result<(), _> = result.send(outcome);
        };
        self.tasks.send(Box::new(task)).expect("the thread lives as long as a handle");
        match finished.await.expect("the thread runs every task") {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Waits until the functions of earlier turns have run. For callers whose number nobody bounds, such as clients of a server.
    pub async fn turn(&self) -> Turn {
        Turn { worker: self.clone(), held: Arc::clone(&self.turn).lock_owned().await }
    }
}

impl Turn {
    /// As [`Worker::run`]. The next turn comes when the function has run, also if the caller goes away meanwhile.
    pub async fn run<T: Send + 'static>(self, function: impl FnOnce() -> T + Send + 'static) -> T {
        let Self { worker, held } = self;
        let task = move || {
            let _held = held;
            function()
        };
        worker.run(task).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn functions_run_in_order_on_one_thread() {
        let worker = Worker::start("test").expect("a thread");
        let (first, second) =
            tokio::join!(worker.run(|| thread::current().id()), worker.run(|| thread::current().id()));
        assert_eq!(first, second);
        assert_ne!(first, thread::current().id());
        assert!(worker.run(|| thread::current().name() == Some("test")).await);
    }

    #[tokio::test]
    async fn a_function_runs_also_if_its_caller_goes_away() {
        let worker = Worker::start("test").expect("a thread");
        let (release, wait) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let caller = tokio::spawn({
            let worker = worker.clone();
            async move {
                worker
                    .run(move || {
                        wait.recv().expect("the test sends once");
                        done.send(()).expect("the test waits");
                    })
                    .await;
            }
        });
        tokio::task::yield_now().await;
        caller.abort();
        assert!(caller.await.is_err(), "it was cancelled");
        release.send(()).expect("the function waits for it");
        worker.run(|| ()).await;
        finished.try_recv().expect("it ran before the next one");
    }

    #[tokio::test]
    async fn who_goes_away_before_its_turn_leaves_nothing_behind() {
        let worker = Worker::start("test").expect("a thread");
        let (release, wait) = mpsc::channel::<()>();
        let run = |function: Box<dyn FnOnce() + Send>| {
            let worker = worker.clone();
            tokio::spawn(async move { worker.turn().await.run(function).await })
        };
        let first = run(Box::new(move || wait.recv().expect("the test sends once")));
        let (held, queued) = mpsc::channel::<()>();
        let second = run(Box::new(move || held.send(()).expect("nobody runs it")));
        tokio::task::yield_now().await;
        second.abort();
        assert!(second.await.is_err(), "it was cancelled");
        let left = queued.try_recv().expect_err("it did not run");
        assert_eq!(left, mpsc::TryRecvError::Disconnected, "its function is freed while the first one runs");
        // The turn lasts as long as the function, not as its caller.
        first.abort();
        assert!(first.await.is_err(), "it was cancelled");
        assert!(worker.turn.try_lock().is_err(), "the first one runs");
        release.send(()).expect("the function waits for it");
        assert_eq!(worker.turn().await.run(|| 5).await, 5);
    }

    #[tokio::test]
    async fn a_panic_continues_in_the_caller_and_the_thread_lives_on() {
        let worker = Worker::start("test").expect("a thread");
        let other = worker.clone();
        // Resumed, not begun, so that nothing is printed.
        let caller = tokio::spawn(async move {
            other.run(|| std::panic::resume_unwind(Box::new("out of luck"))).await;
        });
        let panic = caller.await.expect_err("it panics").into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"out of luck"));
        assert_eq!(worker.run(|| 5).await, 5);
    }
}
