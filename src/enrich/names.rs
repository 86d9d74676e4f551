//! Names of pods and containers, as others tell them: a reading asks by id, takes what is known, and goes on; whoever looks them up
//! learns here what is missing, and tells what it found. Knows nobody who could be asked. Begin at [`Names`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many readings after it was last asked for a name is forgotten.
const KEPT_FOR: u64 = 60;

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name in that namespace.
    pub name: String,
}

/// What a container is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerName {
    /// Its name: in its pod, or on the host. `None` for a pod's sandbox.
    pub name: Option<String>,
    /// The pod it is in, by what stands for that in the paths of cgroups.
    pub pod: Option<String>,
}

/// What was asked for and nobody told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Pods, by what stands for them in the paths of cgroups: a uid or the hash of a static pod's configuration.
    pub pods: Vec<String>,
    /// Containers, by id.
    pub containers: Vec<String>,
}

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.containers.is_empty()
    }
}

/// The names that were asked for. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<String, Entry<PodName>>,
    containers: HashMap<String, Entry<ContainerName>>,
    revision: u64,
    reading: u64,
    /// Whether this reading asked for what nobody asked for before.
    newly_asked: bool,
}

#[derive(Debug)]
struct Entry<T> {
    name: Option<T>,
    /// The last reading that asked.
    asked: u64,
}

impl Names {
    /// What a pod is called; `None` as long as nobody told it.
    #[must_use]
    pub fn pod(&self, key: &str) -> Option<PodName> {
        let state = &mut *self.state();
        ask(&mut state.pods, key, state.reading, &mut state.newly_asked)
    }

    /// What a container is called; `None` as long as nobody told it.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<ContainerName> {
        let state = &mut *self.state();
        ask(&mut state.containers, id, state.reading, &mut state.newly_asked)
    }

    /// Another number whenever something new was told.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// Ends a reading: wakes those who look up names when it asked for new ones, and forgets what was not asked for any more.
    pub fn end_reading(&self) {
        let wake = {
            let state = &mut *self.state();
            let reading = state.reading;
            state.pods.retain(|_, entry| entry.asked + KEPT_FOR > reading);
            state.containers.retain(|_, entry| entry.asked + KEPT_FOR > reading);
            state.reading += 1;
            std::mem::take(&mut state.newly_asked)
        };
        if wake && let Some(wake) = self.0.wake.get() {
            wake();
        }
    }

    /// Has this called when a reading asked for something new. Only the first such call has an effect.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _already_set = self.0.wake.set(Box::new(wake));
    }

    /// What was asked for and nobody told yet.
    #[must_use]
    pub fn missing(&self) -> Missing {
        let state = self.state();
        Missing { pods: unnamed(&state.pods), containers: unnamed(&state.containers) }
    }

    /// Tells a pod's name. One that nobody asked for is not kept.
    pub fn tell_pod(&self, key: &str, name: PodName) {
        let state = &mut *self.state();
        if let Some(entry) = state.pods.get_mut(key)
            && entry.name.as_ref() != Some(&name)
        {
            entry.name = Some(name);
            state.revision += 1;
        }
    }

    /// Tells a container's name. One that nobody asked for is not kept.
    pub fn tell_container(&self, id: &str, name: ContainerName) {
        let state = &mut *self.state();
        if let Some(entry) = state.containers.get_mut(id)
            && entry.name.as_ref() != Some(&name)
        {
            entry.name = Some(name);
            state.revision += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask<T: Clone>(
    entries: &mut HashMap<String, Entry<T>>,
    id: &str,
    reading: u64,
    new: &mut bool,
) -> Option<T> {
    if let Some(entry) = entries.get_mut(id) {
        entry.asked = reading;
        return entry.name.clone();
    }
    entries.insert(id.to_owned(), Entry { name: None, asked: reading });
    *new = true;
    None
}

fn unnamed<T>(entries: &HashMap<String, Entry<T>>) -> Vec<String> {
    let mut ids: Vec<_> =
        entries.iter().filter(|(_, entry)| entry.name.is_none()).map(|(id, _)| id.clone()).collect();
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
    fn what_is_asked_for_is_missing_until_it_is_told() {
        let names = Names::default();
        let woken = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&woken);
        names.wake_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        names.tell_pod("u1", pod());
        assert_eq!(names.pod("u1"), None, "what was told before anybody asked is not kept");
        assert_eq!(names.container("c1"), None);
        names.end_reading();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!(
            names.missing(),
            Missing { pods: vec!["u1".to_owned()], containers: vec!["c1".to_owned()] }
        );

        let before = names.revision();
        names.tell_pod("u1", pod());
        names.tell_container("c1", ContainerName { name: Some("web".to_owned()), pod: None });
        assert_eq!((names.revision() - before, names.missing().is_empty()), (2, true));
        names.tell_pod("u1", pod());
        assert_eq!(names.revision() - before, 2, "nothing new was told");
        assert_eq!(names.pod("u1"), Some(pod()));
        names.end_reading();
        assert_eq!(woken.load(Ordering::Relaxed), 1, "nothing new was asked for");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let names = Names::default();
        let _unknown = (names.pod("u1"), names.pod("u2"));
        for _ in 0..=KEPT_FOR {
            let _unknown = names.pod("u2");
            names.end_reading();
        }
        assert_eq!(names.missing().pods, ["u2"]);
    }
}
