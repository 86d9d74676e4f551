//! The pod, container and unit of a process or cgroup: what its path identifies, confirmed and named by the sources of names.
//!
//! Entry points: [`identity`], and [`named`] once names that were looked up may be known.

use std::borrow::Cow;

use super::cgroup::{CgroupIdentity, is_uid};
use super::names::{Known, NameCache};
use crate::model::{Container, IdentifiedBy, Identity, Owner, Pod, Process};

/// Returns a process or creator in a cgroup as a holder.
pub(super) fn identity(mut cgroup: CgroupIdentity, process: Option<Process>, names: &NameCache) -> Owner {
    if cgroup.identified_by == Some(IdentifiedBy::Path) {
        learn_source(&cgroup, names);
    }
    let mut inside = cgroup.nested.take();
    while let Some(mut nested) = inside {
        inside = nested.nested.take();
        if is_confirmed(&nested, names) {
            cgroup = CgroupIdentity { identified_by: Some(IdentifiedBy::Confirmed), ..*nested };
            break;
        }
    }
    // Who can make up ids could have none of its objects reported with an owner, by a new one every few seconds.
    let waits = cgroup.identified_by != Some(IdentifiedBy::Delegated);
    let found = cgroup.container.as_deref().map(|id| names.query_container(id));
    let mut is_awaited = waits && found.as_ref().is_some_and(Known::is_awaited);
    let (container_name, pod_of_container) =
        found.and_then(Known::name).map(|found| (found.name, found.pod)).unwrap_or_default();
    // The unit may have named a container of another one.
    let pod_of_container = pod_of_container.filter(|_| cgroup.identified_by != Some(IdentifiedBy::Delegated));
    let container = cgroup.container.map(|id| Container {
        id,
        runtime: cgroup.runtime.map(Cow::into_owned).map(Cow::Owned),
        name: container_name,
    });
    let pod = cgroup.pod.or(pod_of_container).map(|key| {
        let found = names.query_pod(&key);
        is_awaited |= found.is_awaited();
        let (namespace, name) = found.name().map(|found| (found.namespace, found.name)).unzip();
        Pod { uid: is_uid(&key).then(|| key.clone()), key, namespace, name }
    });
    let (identified_by, unit) = (cgroup.identified_by, cgroup.unit);
    let identity = Identity { process, container, pod, identified_by, unit, ..Identity::default() };
    if is_awaited { Owner::awaiting_name(identity) } else { Owner::from(identity) }
}

/// Returns a process or creator, whose name [was looked up](Owner::awaits_name), by the names that are known by now.
pub(super) fn named(holder: &Owner, names: &NameCache) -> Owner {
    let Identity { process, container, pod, identified_by, unit, .. } = Identity::clone(holder);
    let (container, runtime) = container.map(|container| (container.id, container.runtime)).unzip();
    let cgroup = CgroupIdentity {
        pod: pod.map(|pod| pod.key),
        container,
        runtime: runtime.flatten(),
        unit,
        identified_by,
        // A container inside of this one is not waited for.
        nested: None,
    };
    identity(cgroup, process, names)
}

/// Returns the owner that a holder belongs to: [`Identity::top_level`].
pub(super) fn top_level(holder: &Owner) -> Owner {
    let owner = holder.top_level();
    if holder.awaits_name() { Owner::awaiting_name(owner) } else { Owner::from(owner) }
}

/// Records which source names this outermost container or pod.
fn learn_source(outermost: &CgroupIdentity, names: &NameCache) {
    let container = outermost.container.as_deref().map(|id| names.query_container(id));
    let pod = outermost.pod.as_deref().map(|key| names.query_pod(key));
    let of_container = container.and_then(|known| known.source());
    for source in of_container.into_iter().chain(pod.and_then(|known| known.source())) {
        names.saw_outermost(source);
    }
}

/// Returns whether the node confirms a container or pod inside of a container: a process in it may have created a cgroup of any name.
///
/// It is confirmed by a source that has it, in the same pod, and that has no container or pod which is in no other: the runtime of
/// the outer container knows none inside of it, whatever the ids say.
fn is_confirmed(nested: &CgroupIdentity, names: &NameCache) -> bool {
    let source = match (&nested.container, &nested.pod) {
        (Some(id), pod) => match names.query_container(id) {
            Known::Name(name, source) if pod.is_none() || name.pod == *pod => Some(source),
            _ => None,
        },
        (None, Some(key)) => names.query_pod(key).source(),
        (None, None) => None,
    };
    source.is_some_and(|source| names.may_be_nested(source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::names::{ContainerName, NameSourceId, PodName};
    use crate::model::OwnerKind;

    const OUTER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const INNER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
    const OTHER: &str = "7a1b2c3d-fdcc-454b-97bd-aadfdeb4c340";
    /// The runtime that runs the outer container, and the one inside of it.
    const HOST: NameSourceId = NameSourceId(1);
    const NODE: NameSourceId = NameSourceId(0);

    /// Returns kind and name of the owner of a process in this cgroup, and how it was identified.
    fn owner_in(path: &str, names: &NameCache) -> (OwnerKind, String, Option<IdentifiedBy>) {
        let path = path.replace("OUTER", OUTER).replace("INNER", INNER).replace("UID", UID);
        let owner = identity(CgroupIdentity::of(&path), None, names).top_level();
        (owner.kind(), owner.name(), owner.identified_by)
    }

    /// Returns a cache that was queried for everything.
    fn queried() -> NameCache {
        let names = NameCache::default();
        for id in [INNER, OUTER] {
            let _unknown = names.container(id);
        }
        for key in [UID, OTHER] {
            let _unknown = names.pod(key);
        }
        names
    }

    fn name_pod(names: &NameCache, source: NameSourceId, pod: &str, container: &str, name: &str) {
        names.set_pod(pod, PodName { namespace: "shop".to_owned(), name: name.to_owned() }, source);
        let container_name = ContainerName { name: Some("web".to_owned()), pod: Some(pod.to_owned()) };
        names.set_container(container, container_name, source);
    }

    #[test]
    fn a_nested_pod_needs_the_word_of_the_node() {
        const NESTED: [&str; 2] = [
            "/docker/OUTER/kubelet/kubepods/burstable/podUID/INNER",
            "/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/\
             kubelet-kubepods-pod2fc932ce_fdcc_454b_97bd_aadfdeb4c340.slice/cri-containerd-INNER.scope",
        ];
        for path in NESTED {
            let outer = (OwnerKind::Container, OUTER[..12].to_owned(), Some(IdentifiedBy::Path));
            assert_eq!(owner_in(path, &queried()), outer, "nobody knows it");

            let names = queried();
            name_pod(&names, NODE, UID, INNER, "cart");
            let confirmed = (OwnerKind::Pod, "shop/cart".to_owned(), Some(IdentifiedBy::Confirmed));
            assert_eq!(owner_in(path, &names), confirmed);

            let names = queried();
            name_pod(&names, NODE, OTHER, INNER, "cart");
            assert_eq!(owner_in(path, &names), outer, "its container is in another pod");

            let names = queried();
            names.set_pod(UID, PodName { namespace: "shop".to_owned(), name: "cart".to_owned() }, NODE);
            assert_eq!(owner_in(path, &names), outer, "the pod exists, the container was made up");
        }
    }

    #[test]
    fn a_runtime_of_the_host_does_not_confirm_nested_containers() {
        // A pod that knows the ids of another one.
        let path = "/kubepods/podUID/OUTER/kubepods/pod7a1b2c3d-fdcc-454b-97bd-aadfdeb4c340/INNER";
        let names = queried();
        name_pod(&names, NODE, UID, OUTER, "forger");
        name_pod(&names, NODE, OTHER, INNER, "victim");
        let forger = (OwnerKind::Pod, "shop/forger".to_owned(), Some(IdentifiedBy::Path));
        assert_eq!(owner_in(path, &names), forger);

        // A container of Docker that does, where another runtime runs the pods.
        let path = "/docker/OUTER/kubepods/podUID/INNER";
        let names = queried();
        let forger = ContainerName { name: Some("forger".to_owned()), pod: None };
        names.set_container(OUTER, forger, HOST);
        name_pod(&names, NODE, UID, INNER, "victim");
        let victim = owner_in("/kubepods/podUID/INNER", &names);
        assert_eq!((victim.1, victim.2), ("shop/victim".to_owned(), Some(IdentifiedBy::Path)));
        let forger = (OwnerKind::Container, "forger".to_owned(), Some(IdentifiedBy::Path));
        assert_eq!(owner_in(path, &names), forger);
    }

    #[test]
    fn a_user_cannot_take_the_name_of_a_pod_or_container_of_the_host() {
        let names = queried();
        name_pod(&names, NODE, UID, INNER, "victim");
        let names_of_user =
            |path: &str| owner_in(&format!("/user.slice/user-1000.slice/user@1000.service/{path}"), &names);
        let own = (OwnerKind::Container, "user@1000.service/web".to_owned(), Some(IdentifiedBy::Delegated));
        for path in
            ["docker-INNER.scope", "kubepods/podUID/INNER", "app.slice/x.service/libpod-payload-INNER"]
        {
            assert_eq!(names_of_user(path), own, "{path}");
        }
        assert_eq!(names_of_user("kubepods/podUID").1, "user@1000.service");
    }

    #[test]
    fn owners_await_the_names_that_are_looked_up() {
        let names = NameCache::awaiting_lookups();
        let path = format!("/kubepods/podUID/{INNER}").replace("UID", UID);
        let holder = || identity(CgroupIdentity::of(&path), None, &names);
        let early = holder();
        assert!(early.awaits_name() && named(&early, &names).awaits_name());
        name_pod(&names, NODE, UID, INNER, "cart");
        let late = named(&early, &names);
        assert_eq!(late, holder());
        assert_eq!((late.name(), late.identified_by), ("shop/cart", Some(IdentifiedBy::Path)));
        assert_eq!(named(&top_level(&early), &names).name(), "shop/cart", "its owner, too");
        assert!(!holder().awaits_name());
        assert_eq!(holder().name(), "shop/cart");
        assert!(!identity(CgroupIdentity::of("/system.slice/a.service"), None, &names).awaits_name());
        // Ids that were made up are not waited for.
        for made_up in ["/system.slice/a.service/docker/OUTER", "/kubepods/podUID/INNER/docker/OUTER"] {
            let path = made_up.replace("OUTER", OUTER).replace("INNER", INNER).replace("UID", UID);
            assert!(!identity(CgroupIdentity::of(&path), None, &names).awaits_name(), "{made_up}");
        }
    }

    #[test]
    fn static_pods_have_no_uid() {
        const HASH: &str = "36b6d6be73b1065af369b3985edafa09";
        let names = NameCache::default();
        let uid = |path: &str| {
            let holder = identity(CgroupIdentity::of(path), None, &names);
            let pod = holder.pod.as_ref().expect("it is in a pod");
            (pod.key.clone(), pod.uid.clone())
        };
        assert_eq!(uid(&format!("/kubepods/pod{UID}/{INNER}")), (UID.to_owned(), Some(UID.to_owned())));
        assert_eq!(uid(&format!("/kubepods/pod{HASH}/{INNER}")), (HASH.to_owned(), None));
        let container = ContainerName { name: None, pod: Some(HASH.to_owned()) };
        names.set_container(INNER, container, NameSourceId(0));
        assert_eq!(uid(&format!("/docker/{INNER}")), (HASH.to_owned(), None), "its runtime reports the pod");
    }
}
