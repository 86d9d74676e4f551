//! Non-blocking cache of pod and container names, filled in the background.
//!
//! Entry point: [`NameCache`]. A reading queries by id and never waits; `lookup` gets the missing ids here and stores what it finds.
//! Independent of where names come from.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Number of readings for which a name is kept after the last query for it.
const KEPT_READINGS: u64 = 60;

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
}

#[derive(Debug)]
struct CachedName<T> {
    name: Option<T>,
    /// Number of the last reading that queried it.
    queried_in: u64,
}

impl NameCache {
    /// Returns the name of a pod; `None` until it is looked up.
    #[must_use]
    pub fn pod(&self, key: &str) -> Option<PodName> {
        let state = &mut *self.state();
        query(&mut state.pods, key, state.reading, &mut state.has_new_ids)
    }

    /// Returns the name of a container; `None` until it is looked up.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<ContainerName> {
        let state = &mut *self.state();
        query(&mut state.containers, id, state.reading, &mut state.has_new_ids)
    }

    /// Returns a number that changes with every name that is added or changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// Ends a reading: runs the [`on_new_ids`](Self::on_new_ids) callback if it queried new ids, and drops names that have not been
    /// queried for 60 readings.
    pub fn end_reading(&self) {
        let has_new_ids = {
            let state = &mut *self.state();
            let reading = state.reading;
            state.pods.retain(|_, cached| cached.queried_in + KEPT_READINGS > reading);
            state.containers.retain(|_, cached| cached.queried_in + KEPT_READINGS > reading);
            state.reading += 1;
            std::mem::take(&mut state.has_new_ids)
        };
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
    pub fn set_pod(&self, key: &str, name: PodName) {
        let state = &mut *self.state();
        store(&mut state.pods, key, name, &mut state.revision);
    }

    /// Stores the name of a container. Ignored if no reading queried it.
    ///
    /// The name of its pod is missing from then on too, as if the reading had queried it: the next one will, where the path of
    /// the cgroup does not have the pod.
    pub fn set_container(&self, id: &str, name: ContainerName) {
        let state = &mut *self.state();
        let pod = name.pod.clone();
        if store(&mut state.containers, id, name, &mut state.revision)
            && let Some(pod) = pod
        {
            let _name = query(&mut state.pods, &pod, state.reading, &mut state.has_new_ids);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn query<T: Clone>(
    names: &mut HashMap<String, CachedName<T>>,
    id: &str,
    reading: u64,
    has_new_ids: &mut bool,
) -> Option<T> {
    if let Some(cached) = names.get_mut(id) {
        cached.queried_in = reading;
        return cached.name.clone();
    }
    names.insert(id.to_owned(), CachedName { name: None, queried_in: reading });
    *has_new_ids = true;
    None
}

/// Returns true if the name was stored: it was queried, and is new or has changed.
fn store<T: PartialEq>(
    names: &mut HashMap<String, CachedName<T>>,
    id: &str,
    name: T,
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
        names.set_pod("u1", pod());
        assert_eq!(names.pod("u1"), None, "a name stored before the first query is dropped");
        assert_eq!(names.container("c1"), None);
        names.end_reading();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(
            names.missing(),
            MissingNames { pods: vec!["u1".to_owned()], containers: vec!["c1".to_owned()] }
        );

        let before = names.revision();
        names.set_pod("u1", pod());
        names.set_container("c1", ContainerName { name: Some("web".to_owned()), pod: None });
        assert_eq!((names.revision() - before, names.missing().is_empty()), (2, true));
        names.set_pod("u1", pod());
        assert_eq!(names.revision() - before, 2, "the name is the same");
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
        names.set_container("c1", ContainerName { name: Some("web".to_owned()), pod: Some("u1".to_owned()) });
        assert_eq!(names.missing(), MissingNames { pods: vec!["u1".to_owned()], containers: Vec::new() });
        names.set_pod("u1", pod());
        assert_eq!(names.pod("u1"), Some(pod()));
    }
}
