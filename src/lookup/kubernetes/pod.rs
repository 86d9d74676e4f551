//! A pod as the API server writes it, read into the few things that names need; and the pods of this node, ready to answer.
//! Knows neither the wire nor time. Begin at [`Pods`].

use std::collections::HashMap;

use serde::Deserialize;

use crate::enrich::names::{ContainerName, Missing, Names, PodName};

/// A pod, without the nine tenths of it that are not asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    namespace: String,
    name: String,
    uid: String,
    /// The state of the whole cluster's pods that an event about this one leads to.
    #[serde(default)]
    pub(super) resource_version: String,
    /// `null` and missing are both written for none.
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    /// Only on what the kubelet shows the API server of a pod that it has from a file: `ConfigMirrorAnnotationKey` in the kubelet's
    /// source.
    #[serde(default, rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
    /// On such a pod, what the kubelet takes for its uid, also in the paths of cgroups: `ConfigHashAnnotationKey`.
    #[serde(default, rename = "kubernetes.io/config.hash")]
    hash: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "containerStatuses")]
    ordinary: Option<Vec<ContainerStatus>>,
    #[serde(rename = "initContainerStatuses")]
    init: Option<Vec<ContainerStatus>>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    /// `containerd://4f9c…`; missing or empty until it is made.
    #[serde(rename = "containerID", default)]
    container_id: Option<String>,
}

/// What is kept of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    namespace: String,
    name: String,
    hash: Option<String>,
    /// Ids and names.
    containers: Vec<(String, String)>,
}

/// The pods of a node, by uid.
#[derive(Debug, Default)]
pub(super) struct Pods(HashMap<String, Kept>);

impl Pods {
    /// Keeps a pod, and says whether anything about it is new.
    pub(super) fn set(&mut self, pod: Pod) -> bool {
        let (uid, kept) = keep(pod);
        if self.0.get(&uid) == Some(&kept) {
            return false;
        }
        self.0.insert(uid, kept);
        true
    }

    /// Drops a pod that is gone.
    pub(super) fn remove(&mut self, pod: &Pod) {
        self.0.remove(&pod.metadata.uid);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `other` knows what these do not.
    pub(super) fn is_news(&self, other: &Self) -> bool {
        other.0.iter().any(|(uid, kept)| self.0.get(uid) != Some(kept))
    }

    /// Tells what was asked for and is known.
    pub(super) fn answer(&self, names: &Names) {
        let asked = names.pods();
        if !asked.is_empty() {
            let static_pods: HashMap<_, _> =
                self.0.iter().filter_map(|(uid, kept)| Some((kept.hash.as_deref()?, (uid, kept)))).collect();
            for (key, _) in asked {
                // A uid is the API server's and unique; a hash stands in an annotation, where anybody could write another's uid.
                if let Some((uid, kept)) =
                    self.0.get_key_value(&key).or_else(|| static_pods.get(&*key).copied())
                {
                    let (namespace, name) = (kept.namespace.clone(), kept.name.clone());
                    names.tell_pod(&key, PodName { namespace, name, uid: Some(uid.clone()) });
                }
            }
        }
        let Missing { containers: asked, .. } = names.missing();
        if asked.is_empty() {
            return;
        }
        let known: HashMap<_, _> = self
            .0
            .iter()
            .flat_map(|(uid, kept)| kept.containers.iter().map(move |(id, name)| (&**id, (name, uid, kept))))
            .collect();
        for id in asked {
            if let Some((name, uid, kept)) = known.get(&*id) {
                let pod = Some(kept.hash.as_ref().unwrap_or(uid).clone());
                names.tell_container(&id, ContainerName { name: Some((*name).clone()), pod });
            }
        }
    }
}

impl FromIterator<Pod> for Pods {
    fn from_iter<T: IntoIterator<Item = Pod>>(pods: T) -> Self {
        Self(pods.into_iter().map(keep).collect())
    }
}

fn keep(Pod { metadata, status }: Pod) -> (String, Kept) {
    let Status { ordinary, init, ephemeral } = status.unwrap_or_default();
    let statuses = [ordinary, init, ephemeral].into_iter().flatten().flatten();
    let containers = statuses.filter_map(|ContainerStatus { name, container_id }| {
        let id = container_id?;
        let id = id.split_once("://").map_or(&*id, |(_runtime, id)| id);
        (!id.is_empty()).then(|| (id.to_owned(), name))
    });
    let hash = metadata.annotations.and_then(|Annotations { mirror, hash }| mirror.and(hash));
    let kept = Kept {
        containers: containers.collect(),
        namespace: metadata.namespace,
        name: metadata.name,
        hash: hash.filter(|hash| !hash.is_empty()),
    };
    (metadata.uid, kept)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MIRROR: &str = "kubernetes.io/config.mirror";
    const HASH: &str = "kubernetes.io/config.hash";

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    fn status(kind: &str, name: &str, id: &str) -> Value {
        json!({ kind: [{ "name": name, "containerID": id }] })
    }

    #[test]
    fn an_ordinary_pod_is_known_by_its_uid() {
        let pods: Pods = [pod(
            json!({"metadata": {"name": "cart", "namespace": "shop", "uid": "u1", "annotations": null}}),
        )]
        .into_iter()
        .collect();
        let names = Names::default();
        let _unknown = (names.pod("u1"), names.pod("u2"));
        pods.answer(&names);
        let told =
            PodName { namespace: "shop".to_owned(), name: "cart".to_owned(), uid: Some("u1".to_owned()) };
        assert_eq!((names.pod("u1"), names.pod("u2")), (Some(told), None));
    }

    #[test]
    fn a_static_pod_is_known_by_its_hash_and_told_with_its_uid() {
        let pods: Pods = [pod(json!({
            "metadata": {
                "name": "etcd-node", "namespace": "kube-system", "uid": "u2", "annotations": { MIRROR: "h", HASH: "h" },
            },
            "status": status("containerStatuses", "etcd", "containerd://c1"),
        }))]
        .into_iter()
        .collect();
        let names = Names::default();
        let _unknown = (names.pod("h"), names.container("c1"));
        pods.answer(&names);
        let uid = Some("u2".to_owned());
        let told = PodName { namespace: "kube-system".to_owned(), name: "etcd-node".to_owned(), uid };
        assert_eq!(names.pod("h"), Some(told));
        let told = ContainerName { name: Some("etcd".to_owned()), pod: Some("h".to_owned()) };
        assert_eq!(names.container("c1"), Some(told), "the pod is named as the paths of cgroups have it");
    }

    #[test]
    fn nobody_takes_another_pods_uid_by_an_annotation() {
        let honest = json!({"metadata": {"name": "honest", "namespace": "a", "uid": "u1"}});
        let forged = json!({"metadata": {
            "name": "forged", "namespace": "b", "uid": "u2", "annotations": { MIRROR: "u1", HASH: "u1" },
        }});
        let no_mirror = json!({"metadata": {"name": "other", "namespace": "b", "uid": "u3", "annotations": { HASH: "u4" }}});
        let pods: Pods = [honest, forged, no_mirror].map(pod).into_iter().collect();
        let names = Names::default();
        let _unknown = (names.pod("u1"), names.pod("u4"));
        pods.answer(&names);
        assert_eq!(names.pod("u1").map(|pod| pod.name).as_deref(), Some("honest"));
        assert_eq!(names.pod("u4"), None);
    }

    #[test]
    fn containers_of_every_kind_and_runtime_are_known_by_their_bare_id() {
        for (kind, id, bare) in [
            ("containerStatuses", "containerd://c1", Some("c1")),
            ("initContainerStatuses", "cri-o://c2", Some("c2")),
            ("ephemeralContainerStatuses", "docker://c3", Some("c3")),
            ("containerStatuses", "c4", Some("c4")),
            ("containerStatuses", "", None),
            ("containerStatuses", "containerd://", None),
        ] {
            let metadata = json!({"name": "cart", "namespace": "shop", "uid": "u1"});
            let (_, kept) = keep(pod(json!({"metadata": metadata, "status": status(kind, "web", id)})));
            let expected: Vec<_> = bare.map(|bare| (bare.to_owned(), "web".to_owned())).into_iter().collect();
            assert_eq!(kept.containers, expected, "{kind} {id}");
        }
    }

    #[test]
    fn only_what_names_need_is_news() {
        let metadata =
            |labels: &str| json!({"name": "cart", "namespace": "shop", "uid": "u1", "labels": labels});
        let mut pods = Pods::default();
        assert!(pods.set(pod(json!({"metadata": metadata("a")}))));
        assert!(!pods.set(pod(json!({"metadata": metadata("b")}))), "labels are nothing to names");
        let started =
            json!({"metadata": metadata("b"), "status": status("containerStatuses", "web", "x://c1")});
        assert!(pods.set(pod(started)));
        assert_eq!(pods.len(), 1);
        pods.remove(&pod(json!({"metadata": metadata("b")})));
        assert_eq!(pods.len(), 0);
    }
}
