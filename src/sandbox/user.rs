//! The user that the process becomes. Entry points: [`UserIds::parse`] and [`become_user`].

use std::str::FromStr;

use nix::sys::prctl;
use nix::unistd::{self, Gid, Uid, User};

/// A user and a group, by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl UserIds {
    /// Parses `NAME`, `UID` or `UID:GID`. The group of a name is that of its user; of a uid without a name, the same number.
    ///
    /// # Errors
    ///
    /// A sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let id = |text: &str| {
            let id = u32::from_str(text).ok().filter(|&id| id != u32::MAX);
            id.ok_or_else(|| format!("{text} is no id; give NAME, UID or UID:GID"))
        };
        if let Some((uid, gid)) = text.split_once(':') {
            return Ok(Self { uid: id(uid)?, gid: id(gid)? });
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let uid = id(text)?;
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            return Ok(Self { uid, gid: user.map_or(uid, |user| user.gid.as_raw()) });
        }
        match User::from_name(text) {
            Ok(Some(user)) => Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
            Ok(None) => Err("there is no such user; give an existing one, or UID:GID".to_owned()),
            Err(error) => Err(format!("users cannot be looked up: {error}; give UID:GID")),
        }
    }
}

/// Makes the process another user, without supplementary groups. The permitted capabilities stay, none is effective.
///
/// Only for a process with a single thread: the kernel keeps the ids of each.
///
/// # Errors
///
/// A sentence for the user, without `CAP_SETUID` and `CAP_SETGID`. The process may be half the other user then, and must end.
pub(super) fn become_user(UserIds { uid, gid }: UserIds) -> Result<(), String> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let is_it = unistd::getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user; 3])
        && unistd::getresgid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [group; 3]);
    if is_it {
        return Ok(());
    }
    let switched = prctl::set_keepcaps(true)
        .and_then(|()| unistd::setgroups(&[]))
        .and_then(|()| unistd::setresgid(group, group, group))
        .and_then(|()| unistd::setresuid(user, user, user))
        .and_then(|()| prctl::set_keepcaps(false));
    switched.map_err(|error| {
        format!(
            "--user: becoming {uid}:{gid} failed: {error}; start it as root, or as that user without the flag"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_ids() {
        assert_eq!(UserIds::parse("root"), Ok(UserIds { uid: 0, gid: 0 }));
        assert_eq!(UserIds::parse("65533:12"), Ok(UserIds { uid: 65533, gid: 12 }));
        assert_eq!(UserIds::parse("4000000001"), Ok(UserIds { uid: 4_000_000_001, gid: 4_000_000_001 }));
        for wrong in ["", "no such user", "1:", ":1", "1:root", "4294967295", "-1:1", "7x"] {
            assert!(UserIds::parse(wrong).is_err(), "{wrong}");
        }
    }
}
