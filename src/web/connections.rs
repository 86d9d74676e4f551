//! The tables of connections and of scrapes, and who makes room when they are full. Entry points: [`Connections::admit`] and
//! [`Scrapes::admit`].

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::activity::Activity;
use super::bounds;

/// Every open connection, at most as many as fit.
pub(super) struct Connections {
    limit: usize,
    open: Mutex<Vec<Arc<Activity>>>,
}

impl Connections {
    /// Returns a table for a process that may have this many descriptors.
    pub(super) fn new(descriptors: u64) -> Arc<Self> {
        let left = descriptors.saturating_sub(bounds::RESERVED_DESCRIPTORS);
        let fitting = usize::try_from(left).unwrap_or(usize::MAX);
        let limit = fitting.clamp(bounds::FEWEST_CONNECTIONS, bounds::CONNECTIONS);
        Arc::new(Self { limit, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Activity>>> {
        self.open.lock().expect("nothing panics with it")
    }

    /// Admits a connection, if necessary in place of one that yields; `None` if none does.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let now = Instant::now();
        let mut open = self.open();
        if open.len() >= self.limit {
            let claims = open.iter().enumerate().filter_map(|(at, other)| Some((other.yields(now)?, at)));
            let (_, victim) = claims.max()?;
            open.swap_remove(victim).close();
        }
        let activity = Activity::new(now);
        open.push(Arc::clone(&activity));
        Some(Admitted { connections: Arc::clone(self), activity })
    }
}

/// A connection in the table.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    pub(super) activity: Arc<Activity>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.open().retain(|other| !Arc::ptr_eq(other, &self.activity));
    }
}

/// Every scrape that is being answered, at most `--web.max-requests`.
pub(super) struct Scrapes {
    /// `None` for no limit.
    limit: Option<usize>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    scrapes: Vec<(u64, Arc<Activity>)>,
    next: u64,
}

impl Scrapes {
    /// Returns a table of this size; 0 is no limit.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: (limit > 0).then_some(limit), running: Mutex::default() })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().expect("nothing panics with it")
    }

    /// Admits a scrape of a connection, if necessary in place of one whose client holds its answer; `None` if none does.
    pub(super) fn admit(self: &Arc<Self>, activity: &Arc<Activity>) -> Option<Scrape> {
        let now = Instant::now();
        let mut running = self.running();
        if self.limit.is_some_and(|limit| running.scrapes.len() >= limit) {
            let held = running.scrapes.iter().enumerate().map(|(at, (_, other))| (other.held(now), at));
            let (held, victim) = held.max()?;
            if held < bounds::YIELD {
                return None;
            }
            running.scrapes.swap_remove(victim).1.close();
        }
        let number = running.next;
        running.next += 1;
        running.scrapes.push((number, Arc::clone(activity)));
        Some(Scrape { scrapes: Arc::clone(self), number })
    }
}

/// A scrape in the table.
pub(super) struct Scrape {
    scrapes: Arc<Scrapes>,
    number: u64,
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.scrapes.running().scrapes.retain(|&(number, _)| number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_limit_connections() {
        assert_eq!(Connections::new(1 << 20).limit, bounds::CONNECTIONS);
        assert_eq!(Connections::new(300).limit, 44);
        assert_eq!(Connections::new(20).limit, bounds::FEWEST_CONNECTIONS);
    }

    #[test]
    fn the_oldest_connection_without_a_request_makes_room_and_none_at_work_does() {
        let connections = Connections::new(0);
        let mut admitted: Vec<_> =
            (0..bounds::FEWEST_CONNECTIONS).map(|_| connections.admit().expect("there is room")).collect();
        let busy: Vec<_> = admitted[1..].iter().map(|other| other.activity.request()).collect();
        let silent = Arc::downgrade(&admitted[0].activity);
        let next = connections.admit().expect("one is silent");
        assert!(!connections.open().iter().any(|open| Arc::as_ptr(open) == silent.as_ptr()));
        let last = next.activity.request();
        assert!(connections.admit().is_none(), "all are at work");
        drop((busy, last));
        admitted.push(connections.admit().expect("they are idle"));
        assert_eq!(connections.open().len(), bounds::FEWEST_CONNECTIONS);
        drop((admitted, next));
        assert!(connections.open().is_empty());
    }

    #[test]
    fn idle_connections_make_room_for_fresh_ones() {
        let connections = Connections::new(0);
        // All but one place are held by an attacker, who then connects again and again.
        let held: Vec<_> =
            (1..bounds::FEWEST_CONNECTIONS).map(|_| connections.admit().expect("there is room")).collect();
        for attacker in &held {
            drop(attacker.activity.request());
        }
        let scraper = connections.admit().expect("there is room");
        let flood: Vec<_> = held.iter().map(|_| connections.admit().expect("idle ones make room")).collect();
        let is_open =
            |activity: &Arc<Activity>| connections.open().iter().any(|open| Arc::ptr_eq(open, activity));
        assert!(is_open(&scraper.activity) && !held.iter().any(|held| is_open(&held.activity)));
        drop(flood);
    }

    #[test]
    fn scrapes_have_a_limit_and_0_is_none() {
        let activity = Activity::new(Instant::now());
        let scrapes = Scrapes::new(2);
        let first = scrapes.admit(&activity).expect("there is room");
        let _second = scrapes.admit(&activity).expect("there is room");
        assert!(scrapes.admit(&activity).is_none());
        drop(first);
        assert!(scrapes.admit(&activity).is_some());
        let unlimited = Scrapes::new(0);
        let many: Vec<_> = (0..100).filter_map(|_| unlimited.admit(&activity)).collect();
        assert_eq!(many.len(), 100);
    }
}
