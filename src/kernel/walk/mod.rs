//! Backend by ids, for every kernel since 5.4: lists ids, opens each object and queries it, one table at a time.
//!
//! Objects come in ascending order of ids. Facts of objects that an earlier walk found are cached.
//! Entry point: [`Known::walk`].

mod btfs;
mod links;
mod maps;
mod programs;

use std::fmt::Debug;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;

pub(crate) use self::btfs::BtfTable;
pub(crate) use self::links::LinkTable;
pub(crate) use self::maps::MapTable;
pub(crate) use self::programs::ProgramTable;
use super::reading::ReadContext;
use crate::ascending::Ascending;
use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};

/// How many known objects of a table that never change are queried in each walk, in turn: the kernel gives out an id again after
/// 2³¹ others.
const QUERIED_IN_TURN: usize = 8;

/// The objects that the last walk of a table found, in ascending order of ids.
#[derive(Debug)]
pub(crate) struct Known<T: ObjectTable> {
    objects: Vec<CachedObject<T>>,
    /// The last object that was queried in its turn; 0 to begin with the first.
    last_queried: u32,
}

/// What is cached of an object from one reading to the next.
#[derive(Debug)]
struct CachedObject<T: ObjectTable> {
    facts: Arc<T::Facts>,
    extra: T::Extra,
}

/// One of the kernel's tables of objects.
pub(crate) trait ObjectTable {
    /// The kind of its objects.
    const KIND: Kind;
    /// Whether something of an object can change, so that each walk queries all of them. Otherwise it is enough that a known one is
    /// listed.
    const CHANGES: bool = true;
    /// What `BPF_OBJ_GET_INFO_BY_FD` returns.
    type Info;
    /// What never changes in an object's life.
    type Facts: Debug;
    /// What else is cached because querying it is expensive.
    type Extra: Copy + Debug + Default;
    /// An object in a snapshot.
    type Row;

    /// Queries an object.
    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info>;

    /// Returns the id of the object that facts describe.
    fn id(facts: &Self::Facts) -> u32;

    /// Returns whether facts and information with the same id describe the same object: ids are reused.
    fn is_same(facts: &Self::Facts, info: &Self::Info) -> bool;

    /// Reads the facts of an object that is not cached.
    fn facts(
        cx: &mut ReadContext<'_>,
        fd: BorrowedFd<'_>,
        info: &Self::Info,
        extra: &mut Self::Extra,
    ) -> Self::Facts;

    /// Returns new facts of a cached object if they changed.
    fn changed(
        _cx: &mut ReadContext<'_>,
        _fd: BorrowedFd<'_>,
        _facts: &Self::Facts,
        _info: &Self::Info,
        _extra: &mut Self::Extra,
    ) -> Option<Self::Facts> {
        None
    }

    /// Joins facts and counters. `info` is `None` if the object could not be queried again.
    fn row(facts: Arc<Self::Facts>, info: Option<&Self::Info>) -> Self::Row;

    /// Adds what other calls return. `fd` is `None` if the object could not be queried again.
    fn complete(
        _cx: &mut ReadContext<'_>,
        _fd: Option<BorrowedFd<'_>>,
        _extra: &mut Self::Extra,
        _row: &mut Self::Row,
    ) {
    }
}

impl<T: ObjectTable> Default for Known<T> {
    fn default() -> Self {
        Self { objects: Vec::new(), last_queried: 0 }
    }
}

impl<T: ObjectTable> Known<T> {
    /// Reads the table, and replaces the known objects by those that it finds.
    ///
    /// `None`, and an issue, if the kernel refuses to list the table. `None` without an issue if the kernel has no such table.
    pub(crate) fn walk(&mut self, cx: &mut ReadContext<'_>) -> Option<Vec<T::Row>> {
        let mut rows = Vec::with_capacity(self.objects.len());
        let mut found = Vec::with_capacity(self.objects.len());
        let cached = Ascending::new(&self.objects[..], |object| T::id(&object.facts));
        let (mut id, mut turn) = (0, Turn::after(self.last_queried));
        loop {
            match sys::next_id(T::KIND, id) {
                Ok(Some(next)) => id = next,
                Ok(None) => break,
                // A kernel that predates the table does not know the command.
                Err(Error { errno: Errno::EINVAL, .. }) if id == 0 => return None,
                Err(error) => {
                    cx.issues.record(T::KIND, error);
                    return None;
                }
            }
            let cached = cached.seek(id);
            let read = match cached {
                Some(cached) if !T::CHANGES && !turn.takes(id) => Some(unqueried(cx, cached)),
                _ => object::<T>(cx, id, cached),
            };
            if let Some((object, row)) = read {
                found.push(object);
                rows.push(row);
            }
        }
        (self.objects, self.last_queried) = (found, turn.last());
        Some(rows)
    }
}

/// Chooses [`QUERIED_IN_TURN`] ids of an ascending list: those behind the last one of the list before.
struct Turn {
    last: u32,
    left: usize,
}

impl Turn {
    const fn after(last: u32) -> Self {
        Self { last, left: QUERIED_IN_TURN }
    }

    /// Returns whether it is the turn of this id.
    fn takes(&mut self, id: u32) -> bool {
        let takes = id > self.last && self.left > 0;
        if takes {
            (self.last, self.left) = (id, self.left - 1);
        }
        takes
    }

    /// Returns the last id whose turn it was; 0 at the end of the list.
    const fn last(&self) -> u32 {
        if self.left > 0 { 0 } else { self.last }
    }
}

/// Reads one object. `None` if it is gone, or if the query failed and it is not cached.
///
/// The descriptor is closed at once: it would keep a dead object alive.
fn object<T: ObjectTable>(
    cx: &mut ReadContext<'_>,
    id: u32,
    cached: Option<&CachedObject<T>>,
) -> Option<(CachedObject<T>, T::Row)> {
    let fd = match sys::fd_by_id(T::KIND, id) {
        Ok(fd) => fd,
        // The object was removed between the two calls. EAGAIN is a link that is still being created.
        Err(Error { errno: Errno::ENOENT | Errno::EAGAIN, .. }) => return None,
        Err(error) => {
            cx.issues.record(T::KIND, error);
            return Some(unqueried(cx, cached?));
        }
    };
    let fd = fd.as_fd();
    let info = match T::info(fd) {
        Ok(info) => info,
        Err(error) => {
            cx.issues.record(T::KIND, error);
            return Some(unqueried(cx, cached?));
        }
    };
    let cached = cached.filter(|cached| T::is_same(&cached.facts, &info));
    let mut extra = cached.map_or_else(T::Extra::default, |cached| cached.extra);
    let facts = match cached {
        Some(CachedObject { facts, .. }) => {
            let changed = T::changed(cx, fd, facts, &info, &mut extra);
            changed.map_or_else(|| Arc::clone(facts), Arc::new)
        }
        None => Arc::new(T::facts(cx, fd, &info, &mut extra)),
    };
    let mut object = CachedObject { facts, extra };
    let mut row = T::row(Arc::clone(&object.facts), Some(&info));
    T::complete(cx, Some(fd), &mut object.extra, &mut row);
    Some((object, row))
}

/// Reuses the cached facts of an object that is listed, hence alive, and is not or could not be queried.
fn unqueried<T: ObjectTable>(
    cx: &mut ReadContext<'_>,
    CachedObject { facts, extra }: &CachedObject<T>,
) -> (CachedObject<T>, T::Row) {
    let mut object = CachedObject { facts: Arc::clone(facts), extra: *extra };
    let mut row = T::row(Arc::clone(facts), None);
    T::complete(cx, None, &mut object.extra, &mut row);
    (object, row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ids that are queried in each of several walks over a list.
    fn turns(ids: std::ops::RangeInclusive<u32>, walks: usize) -> Vec<Vec<u32>> {
        let mut last = 0;
        let walk = |_| {
            let mut turn = Turn::after(last);
            let taken = ids.clone().filter(|&id| turn.takes(id)).collect();
            last = turn.last();
            taken
        };
        (0..walks).map(walk).collect()
    }

    #[test]
    fn the_turn_comes_to_each_id() {
        assert_eq!(
            turns(1..=20, 4),
            [(1..=8).collect(), (9..=16).collect(), (17..=20).collect(), (1..=8).collect::<Vec<_>>()]
        );
        // A list that ends with a turn: the next walk has none, and the one after it begins again.
        assert_eq!(turns(1..=8, 3), [(1..=8).collect(), vec![], (1..=8).collect::<Vec<_>>()]);
        assert_eq!(turns(3..=5, 2), [vec![3, 4, 5], vec![3, 4, 5]]);
    }
}
