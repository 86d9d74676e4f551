//! What the path of a cgroup says of who is in it: container, pod and unit of systemd.
//! Knows no name that is not in the path. Begin at [`Place::of`].

use std::borrow::Cow;

/// What a path says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The pod, by what stands for it: its uid with dashes, or the hash of a static pod's configuration.
    pub pod: Option<String>,
    /// Whether that is such a hash.
    pub is_static: bool,
    /// The container by its id.
    pub container: Option<String>,
    /// The container's runtime, where the path tells it.
    pub runtime: Option<Cow<'static, str>>,
    /// The unit of systemd, for what is in no container, behind its manager where that is not the system's.
    pub unit: Option<String>,
}

impl Place {
    /// Understands the path of a cgroup.
    #[must_use]
    pub fn of(_path: &str) -> Self {
        Self::default()
    }
}
