//! How we stand with the API server, and what was said about it in the log already: nothing is said twice while it lasts.
//! Knows nothing of what is watched. Begin at [`Relation::failed`].

use std::collections::HashSet;
use std::time::Instant;

use http::{StatusCode, Uri};
use tracing::{debug, info, warn};

use super::wire::Failure;

/// How we stand with the API server.
#[derive(Debug)]
pub(super) struct Relation {
    node: String,
    /// Since when it does not work, and what of it was said.
    trouble: Option<(Instant, HashSet<Kind>)>,
    /// Whether it ever worked.
    began: bool,
}

/// What failures have in common that a user would act on in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Access,
    Unreachable,
    Refused(StatusCode),
    Answer,
}

impl Relation {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), trouble: None, began: false }
    }

    /// It failed, after so many failures. What an API server that restarts does, too, is told when it happens again.
    pub(super) fn failed(&mut self, failure: &Failure, before: u32) {
        let kind = match failure {
            Failure::Gone(_) | Failure::Ended if before < 2 => {
                debug!("watching pods again: {failure}");
                return;
            }
            Failure::Access(_) => Kind::Access,
            Failure::Unreachable { .. } | Failure::Silent { .. } => Kind::Unreachable,
            Failure::Refused { status, .. } => Kind::Refused(*status),
            Failure::Gone(_) | Failure::Ended | Failure::Garbage(_) => Kind::Answer,
        };
        let (_, said) = self.trouble.get_or_insert_with(|| (Instant::now(), HashSet::new()));
        if said.insert(kind) {
            warn!(
                "Kubernetes does not tell names of pods: {failure}; trying again until it does; it takes the rights to list and watch pods"
            );
        } else {
            debug!("Kubernetes still does not tell names of pods: {failure}");
        }
    }

    /// It told the pods of this node.
    pub(super) fn listed(&mut self, server: &Uri, pods: usize) {
        if std::mem::replace(&mut self.began, true) {
            debug!("{server} listed {pods} pods");
            return;
        }
        let node = &self.node;
        if pods == 0 {
            warn!("{server} knows no pod of a node {node:?}: is --node-name what kubectl get nodes shows?");
        } else {
            info!("watching the pods of node {node} at {server}, {pods} of them now");
        }
    }

    /// It works.
    pub(super) fn works(&mut self) {
        if let Some((since, _)) = self.trouble.take() {
            info!("Kubernetes tells names of pods again after {} s", since.elapsed().as_secs());
        }
    }
}
