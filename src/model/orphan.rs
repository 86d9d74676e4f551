//! Objects that stay loaded although nothing holds them. Entry point: [`Orphan`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::owner::Owner;
use super::time::BootTime;

/// An object that no process, pin, link or hook holds, directly or through another object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Orphan {
    /// Kind of the object.
    pub kind: Kind,
    /// Its id.
    pub id: u32,
    /// The end of the first search that found no holder; the first search of this process if it had none by then.
    #[serde(rename = "since_boot_ns")]
    pub since: BootTime,
    /// Its owner before that. `None` if it had none, or had no holder from the first reading on.
    pub last_owner: Option<Arc<Owner>>,
}
