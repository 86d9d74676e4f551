//! Non-blocking cache of pod and container names, filled in the background.
//!
//! Entry point: [`NameCache`]. A reading queries by id and never waits; `lookup` gets the missing ids here and stores what it finds.
//! Independent of where names come from.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Number of readings for which a name is kept after the last query for it.
const KEPT_READINGS: u64 = 60;

/// How long an owner is not reported while its name is being looked up. A runtime answers within milliseconds; the kubelet links
/// the log of a container just after its start.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The number of complete rounds of lookups after which an id without a name is not waited for any more. The second one comes about
/// a second after the first.
const ROUNDS: u8 = 2;

/// Where a name comes from. Those of one kubelet and its runtime are the same source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NameSourceId(pub usize);

/// What the cache knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// The name and its source.
    Name(T, NameSourceId),
    /// It is being looked up, and worth waiting for.
    Awaited,
    /// It is not known, and may be found later.
    Unknown,
}

/// Name of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name in that namespace.
    pub name: String,
}

/// Name of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName {
    /// Name in the pod, or on the host for a container outside of pods. `None` for the sandbox of a pod.
    pub name: Option<String>,
    /// Key of the pod that the container is in, as in [`MissingNames::pods`].
    pub pod: Option<String>,
}

/// Pods and containers that were queried and have no name yet, each list in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingNames {
    /// Pods, by the key in the paths of their cgroups: the UID, or the hash of the configuration for a static pod.
    pub pods: Vec<String>,
    /// Containers, by id.
    pub containers: Vec<String>,
}

impl MissingNames {
    /// Returns true if no name is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.containers.is_empty()
    }

    pub(crate) fn has_pod(&self, key: &str) -> bool {
        contains(&self.pods, key)
    }

    pub(crate) fn has_container(&self, id: &str) -> bool {
        contains(&self.containers, id)
    }
}

fn contains(sorted: &[String], id: &str) -> bool {
    sorted.binary_search_by(|other| (**other).cmp(id)).is_ok()
}

/// Names of all pods and containers that readings query. A clone shares the cache.
#[derive(Clone, Debug, Default)]
pub struct NameCache(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    on_new_ids: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<String, CachedName<PodName>>,
    containers: HashMap<String, CachedName<ContainerName>>,
    revision: u64,
    /// Number of the current reading.
    reading: u64,
    /// Whether the current reading has an id that had no entry before.
    has_new_ids: bool,
    /// Whether names are waited for.
    waits: bool,
    /// Sources that named a container which is in no other: see [`NameCache::saw_outermost`].
    host_sources: HashSet<NameSourceId>,
}

#[derive(Debug)]
struct CachedName<T> {
    name: Option<(T, NameSourceId)>,
    /// Since when it is waited for; `None` if it is not.
    awaited_since: Option<Instant>,
    /// Complete rounds of lookups that did not find it.
    rounds: u8,
    /// Number of the last reading that queried it.
    queried_in: u64,
}

impl NameCache {
    /// Returns a cache for readings whose names are looked up in the background: for a few seconds, a new id without a name is
    /// [awaited](Known::Awaited).
    #[must_use]
    pub fn awaiting_lookups() -> Self {
        let names = Self::default();
        names.state().waits = true;
        names
    }

    /// Returns the name of a pod; `None` until it is looked up.
    #[must_use]
    pub fn pod(&self, key: &str) -> Option<PodName> {
        self.query_pod(key).name()
    }

    /// Returns the name of a container; `None` until it is looked up.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<ContainerName> {
        self.query_container(id).name()
    }

    pub(super) fn query_pod(&self, key: &str) -> Known<PodName> {
        let state = &mut *self.state();
        query(&mut state.pods, key, state.reading, state.waits, &mut state.has_new_ids)
    }

    pub(super) fn query_container(&self, id: &str) -> Known<ContainerName> {
        let state = &mut *self.state();
        query(&mut state.containers, id, state.reading, state.waits, &mut state.has_new_ids)
    }

    /// Records that a container named by this source is in no other container: the source is a runtime of the host, so what it knows
    /// is never inside of a container.
    pub(super) fn saw_outermost(&self, source: NameSourceId) {
        let state = &mut *self.state();
        if state.host_sources.insert(source) {
            state.revision += 1;
        }
    }

    /// Returns whether a container that this source knows may be inside of another one.
    pub(super) fn may_be_nested(&self, source: NameSourceId) -> bool {
        !self.state().host_sources.contains(&source)
    }

    /// Starts a reading: ends waits that have been too long. Returns a number that changes with every name that is added or changed,
    /// and every wait that ended.
    pub(super) fn start_reading(&self) -> u64 {
        self.end_waits();
        self.state().revision
    }

    /// Ends waits that have been too long, or are in vain.
    pub(super) fn end_waits(&self) {
        let state = &mut *self.state();
        let ended = end_waits(&mut state.pods) | end_waits(&mut state.containers);
        state.revision += u64::from(ended);
    }

    /// Records that every source was queried for these ids, and those that have no name still are unknown to all of them; with
    /// `no_source`, that there is none, so that nothing is worth waiting for.
    pub fn answered(&self, queried: &MissingNames, no_source: bool) {
        fn count<T>(names: &mut HashMap<String, CachedName<T>>, ids: &[String], no_source: bool) {
            for id in ids {
                if let Some(cached) = names.get_mut(id) {
                    cached.rounds = if no_source { ROUNDS } else { cached.rounds.saturating_add(1) };
                }
            }
        }
        let state = &mut *self.state();
        count(&mut state.pods, &queried.pods, no_source);
        count(&mut state.containers, &queried.containers, no_source);
    }

    /// Ends a reading: runs the [`on_new_ids`](Self::on_new_ids) callback if it queried new ids, and drops names that have not been
    /// queried for 60 readings.
    pub fn end_reading(&self) {
        {
            let state = &mut *self.state();
            let reading = state.reading;
            state.pods.retain(|_, cached| cached.queried_in + KEPT_READINGS > reading);
            state.containers.retain(|_, cached| cached.queried_in + KEPT_READINGS > reading);
            state.reading += 1;
        }
        self.look_up_new();
    }

    /// Runs the [`on_new_ids`](Self::on_new_ids) callback if ids were queried that had no entry before.
    pub(super) fn look_up_new(&self) {
        let has_new_ids = std::mem::take(&mut self.state().has_new_ids);
        if has_new_ids && let Some(on_new_ids) = self.0.on_new_ids.get() {
            on_new_ids();
        }
    }

    /// Sets the callback for readings that queried new ids. Only the first call has an effect.
    pub fn on_new_ids(&self, callback: impl Fn() + Send + Sync + 'static) {
        let _already_set = self.0.on_new_ids.set(Box::new(callback));
    }

    /// Returns the ids that were queried and have no name yet.
    #[must_use]
    pub fn missing(&self) -> MissingNames {
        let state = self.state();
        MissingNames { pods: unnamed(&state.pods), containers: unnamed(&state.containers) }
    }

    /// Stores the name of a pod. Ignored if no reading queried it.
    pub fn set_pod(&self, key: &str, name: PodName, source: NameSourceId) {
        let state = &mut *self.state();
        store(&mut state.pods, key, (name, source), &mut state.revision);
    }

    /// Stores the name of a container. Ignored if no reading queried it.
    ///
    /// The name of its pod is missing from then on too, as if the reading had queried it: the next one will, where the path of
    /// the cgroup does not have the pod.
    pub fn set_container(&self, id: &str, name: ContainerName, source: NameSourceId) {
        let state = &mut *self.state();
        let pod = name.pod.clone();
        if store(&mut state.containers, id, (name, source), &mut state.revision)
            && let Some(pod) = pod
        {
            query(&mut state.pods, &pod, state.reading, state.waits, &mut state.has_new_ids);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Known<T> {
    /// Returns the name, if it is known.
    pub(super) fn name(self) -> Option<T> {
        match self {
            Self::Name(name, _) => Some(name),
            Self::Awaited | Self::Unknown => None,
        }
    }

    /// Returns the source of the name, if it is known.
    pub(super) fn source(&self) -> Option<NameSourceId> {
        match self {
            Self::Name(_, source) => Some(*source),
            Self::Awaited | Self::Unknown => None,
        }
    }

    pub(super) const fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited)
    }
}

fn query<T: Clone>(
    names: &mut HashMap<String, CachedName<T>>,
    id: &str,
    reading: u64,
    waits: bool,
    has_new_ids: &mut bool,
) -> Known<T> {
    let unknown = |awaited: bool| if awaited { Known::Awaited } else { Known::Unknown };
    if let Some(cached) = names.get_mut(id) {
        cached.queried_in = reading;
        return match &cached.name {
            Some((name, source)) => Known::Name(name.clone(), *source),
            None => unknown(cached.awaited_since.is_some()),
        };
    }
    let awaited_since = waits.then(Instant::now);
    names.insert(id.to_owned(), CachedName { name: None, awaited_since, rounds: 0, queried_in: reading });
    *has_new_ids = true;
    unknown(waits)
}

/// Returns true if the name was stored: it was queried, and is new or has changed.
fn store<T: PartialEq>(
    names: &mut HashMap<String, CachedName<T>>,
    id: &str,
    name: (T, NameSourceId),
    revision: &mut u64,
) -> bool {
    match names.get_mut(id) {
        Some(cached) if cached.name.as_ref() != Some(&name) => {
            cached.name = Some(name);
            *revision += 1;
            true
        }
        _ => false,
    }
}

/// Ends the waits that are in vain or have been too long. Returns whether there are any.
fn end_waits<T>(names: &mut HashMap<String, CachedName<T>>) -> bool {
    let mut any = false;
    for cached in names.values_mut().filter(|cached| cached.name.is_none()) {
        let in_vain = cached.rounds >= ROUNDS;
        let ended = cached.awaited_since.take_if(|since| in_vain || since.elapsed() >= LONGEST_WAIT);
        any |= ended.is_some();
    }
    any
}

fn unnamed<T>(names: &HashMap<String, CachedName<T>>) -> Vec<String> {
    let unnamed = names.iter().filter(|(_, cached)| cached.name.is_none());
    let mut ids: Vec<_> = unnamed.map(|(id, _)| id.clone()).collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn pod() -> PodName {
        PodName { namespace: "shop".to_owned(), name: "cart".to_owned() }
    }

    #[test]
    fn queried_ids_are_missing_until_their_names_are_stored() {
        let names = NameCache::default();
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        names.on_new_ids(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        names.set_pod("u1", pod(), NameSourceId(0));
        assert_eq!(names.pod("u1"), None, "a name stored before the first query is dropped");
        assert_eq!(names.container("c1"), None);
        names.end_reading();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(
            names.missing(),
            MissingNames { pods: vec!["u1".to_owned()], containers: vec!["c1".to_owned()] }
        );

        let before = names.start_reading();
        names.set_pod("u1", pod(), NameSourceId(0));
        let name = ContainerName { name: Some("web".to_owned()), pod: None };
        names.set_container("c1", name, NameSourceId(0));
        assert_eq!((names.start_reading() - before, names.missing().is_empty()), (2, true));
        names.set_pod("u1", pod(), NameSourceId(0));
        assert_eq!(names.start_reading() - before, 2, "the name is the same");
        assert_eq!(names.pod("u1"), Some(pod()));
        names.end_reading();
        assert_eq!(calls.load(Ordering::Relaxed), 1, "no id is new");
    }

    #[test]
    fn names_that_are_no_longer_queried_are_dropped() {
        let names = NameCache::default();
        let _unknown = (names.pod("u1"), names.pod("u2"));
        for _ in 0..=KEPT_READINGS {
            let _unknown = names.pod("u2");
            names.end_reading();
        }
        assert_eq!(names.missing().pods, ["u2"]);
    }

    #[test]
    fn the_pod_of_a_named_container_is_missing_too() {
        let names = NameCache::default();
        let _unknown = names.container("c1");
        names.end_reading();
        let name = ContainerName { name: Some("web".to_owned()), pod: Some("u1".to_owned()) };
        names.set_container("c1", name, NameSourceId(0));
        assert_eq!(names.missing(), MissingNames { pods: vec!["u1".to_owned()], containers: Vec::new() });
        names.set_pod("u1", pod(), NameSourceId(0));
        assert_eq!(names.pod("u1"), Some(pod()));
    }

    #[test]
    fn new_ids_are_awaited_until_they_are_named_or_unknown_to_every_source() {
        let names = NameCache::awaiting_lookups();
        assert!(names.query_pod("u1").is_awaited() && names.query_pod("u2").is_awaited());
        let before = names.start_reading();
        let missing = names.missing();
        names.set_pod("u1", pod(), NameSourceId(0));
        assert_eq!(names.query_pod("u1"), Known::Name(pod(), NameSourceId(0)));
        names.answered(&missing, false);
        let revision = names.start_reading();
        assert_ne!(revision, before);
        assert!(names.query_pod("u2").is_awaited(), "the source may be late");
        names.answered(&names.missing(), false);
        assert_ne!(names.start_reading(), revision, "owners are described again");
        assert_eq!(names.query_pod("u2"), Known::Unknown);

        assert!(names.query_container("c1").is_awaited());
        names.answered(&names.missing(), true);
        names.start_reading();
        assert_eq!(
            names.query_container("c1"),
            Known::Unknown,
            "without sources there is nothing to wait for"
        );
        assert_eq!(NameCache::default().query_pod("u1"), Known::Unknown, "a single reading does not wait");
    }

    #[test]
    fn waits_end_after_a_time() {
        let names = NameCache::awaiting_lookups();
        assert!(names.query_pod("u1").is_awaited());
        let before = names.start_reading();
        let started = Instant::now().checked_sub(LONGEST_WAIT).expect("the machine has been up for longer");
        names.state().pods.get_mut("u1").expect("it was queried").awaited_since = Some(started);
        assert_ne!(names.start_reading(), before);
        assert_eq!(names.query_pod("u1"), Known::Unknown);
    }
}
