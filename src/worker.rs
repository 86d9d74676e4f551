//! Threads of the program's own for work that blocks, created at start: later a limit on processes may refuse them.
//!
//! Entry point: [`Worker::start`]. Independent of what is done there.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// A thread that runs one function after another, in the order in which they were given.
///
/// It ends when its handles are dropped and what was given is done.
#[derive(Clone, Debug)]
pub struct Worker {
    tasks: Sender<Task>,
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
        Ok(Self { tasks })
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
