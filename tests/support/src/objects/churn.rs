//! Objects that come and go at a steady rate, as agents that restart and tools that trace make them.
//! One thread makes each object and ends it when it has made the next. Entry point: [`Churn::start`].

use super::error::invalid;
use super::link::{Link, Target};
use super::map::Map;
use super::place::Place;
use super::program::{Program, ProgramSpec};
use super::uapi::{attach_type, link_type, map_type, program_type};
use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How far behind its rate a churn may fall and still catch up.
const LATE: Duration = Duration::from_millis(100);

/// How many objects a churn has made so far; all but the last have ended. A link counts beside the program it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Programs.
    pub programs: u64,
    /// Maps.
    pub maps: u64,
    /// Iterator links.
    pub links: u64,
}

#[derive(Default)]
struct Counters {
    programs: AtomicU64,
    maps: AtomicU64,
    links: AtomicU64,
}

/// Anything that ends when it is dropped.
type Object = Box<dyn Any>;

/// A running churn. Dropping it ends it.
pub struct Churn {
    made: Arc<Counters>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Churn {
    /// Makes and ends `per_second` objects in a second until dropped: a program, a map, a program with a link, and again.
    /// Each lives through the pause after it, so that a reading finds some even where there
    /// is but one processor. Where the machine cannot keep the rate, it makes what it can.
    ///
    /// # Errors
    /// A rate of zero; a kernel without BTF.
    pub fn start(per_second: u32) -> io::Result<Self> {
        if per_second == 0 {
            return Err(invalid("a churn of nothing".to_owned()));
        }
        let made = Arc::new(Counters::default());
        let (stop, stopped) = mpsc::channel();
        let iterator = ProgramSpec { name: "churn_iter", ..ProgramSpec::ready(program_type::TRACING)? };
        let counters = Arc::clone(&made);
        let pause = Duration::from_secs(1) / per_second;
        let churn = move || {
            let mut due = Instant::now();
            let mut held = None;
            loop {
                for make in [program, map, link] {
                    let (object, objects) = make(&iterator, &counters)?;
                    held.replace(object);
                    let now = Instant::now();
                    due += pause * objects;
                    if due + LATE < now {
                        due = now;
                    }
                    let left = due.saturating_duration_since(now);
                    if stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                        return Ok(());
                    }
                }
            }
        };
        let thread = Some(thread::Builder::new().name("churn".to_owned()).spawn(churn)?);
        Ok(Self { made, stop: Some(stop), thread })
    }

    /// How many objects it has made so far.
    #[must_use]
    pub fn made(&self) -> Made {
        Made {
            programs: self.made.programs.load(Ordering::Relaxed),
            maps: self.made.maps.load(Ordering::Relaxed),
            links: self.made.links.load(Ordering::Relaxed),
        }
    }

    /// Ends it and returns how many objects it made in all.
    ///
    /// # Errors
    /// The refusal, if one ended it before.
    pub fn stop(mut self) -> io::Result<Made> {
        self.end()?;
        Ok(self.made())
    }

    fn end(&mut self) -> io::Result<()> {
        // Without a sender the thread's next wait ends at once.
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(io::Error::other("the churn's thread panicked")),
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        // `stop` returns the error.
        let _ended = self.end();
    }
}

// Each of these makes one thing, counts it, and returns it with the number of objects it is.

fn program(_: &ProgramSpec<'_>, made: &Counters) -> io::Result<(Object, u32)> {
    let program = Program::ready(program_type::SOCKET_FILTER, "churn_program")?;
    made.programs.fetch_add(1, Ordering::Relaxed);
    Ok((Box::new(program), 1))
}

fn map(_: &ProgramSpec<'_>, made: &Counters) -> io::Result<(Object, u32)> {
    let map = Map::ready(map_type::ARRAY, "churn_map")?;
    made.maps.fetch_add(1, Ordering::Relaxed);
    Ok((Box::new(map), 1))
}

fn link(iterator: &ProgramSpec<'_>, made: &Counters) -> io::Result<(Object, u32)> {
    let place = Place::of(attach_type::TRACE_ITER);
    let link = Link::attach(link_type::ITER, Program::load(iterator)?, place, Target::Kernel)?;
    made.programs.fetch_add(1, Ordering::Relaxed);
    made.links.fetch_add(1, Ordering::Relaxed);
    Ok((Box::new(link), 2))
}
