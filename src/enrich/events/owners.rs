//! The last owner of each object: who owned what is gone, or what nothing holds any more.
//!
//! Entry points: [`LastOwners::update`] and [`LastOwners::of`].

use std::sync::Arc;

use crate::ascending::Ascending;
use crate::model::{Kind, Owner, OwnerKind, Snapshot};

/// The owners of the last reading. An object that became the kernel's, since nobody holds it any more, keeps the one before.
#[derive(Debug, Default)]
pub(super) struct LastOwners {
    programs: Column,
    maps: Column,
    links: Column,
}

impl LastOwners {
    /// Takes note of the owners of a reading. A table that could not be read stays as it was.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        if let Some(programs) = &snapshot.programs {
            self.programs.update(programs.iter().map(|program| (program.facts.id, &program.owner)));
        }
        if let Some(maps) = &snapshot.maps {
            self.maps.update(maps.iter().map(|map| (map.facts.id, &map.owner)));
        }
        if let Some(links) = &snapshot.links {
            self.links.update(links.iter().map(|link| (link.facts.id, &link.owner)));
        }
    }

    /// Returns the last known owner of an object that was in the last reading.
    pub(super) fn of(&self, kind: Kind, id: u32) -> Option<&Arc<Owner>> {
        let column = match kind {
            Kind::Program => &self.programs,
            Kind::Map => &self.maps,
            Kind::Link => &self.links,
            Kind::Btf => return None,
        };
        let index = column.0.binary_search_by_key(&id, |row| row.id).ok()?;
        column.0[index].owner.as_ref()
    }
}

/// The objects of a kind, in ascending order of ids.
#[derive(Debug, Default)]
struct Column(Vec<Row>);

#[derive(Debug)]
struct Row {
    id: u32,
    owner: Option<Arc<Owner>>,
}

impl Column {
    /// Mostly nothing has changed: then it costs a look at each object.
    fn update<'a>(&mut self, now: impl Iterator<Item = (u32, &'a Option<Arc<Owner>>)> + Clone) {
        if !self.0.iter().map(|row| row.id).eq(now.clone().map(|(id, _)| id)) {
            let before = Ascending::new(std::mem::take(&mut self.0), |row| row.id);
            let owner = |id| before.seek(id).and_then(|row: &Row| row.owner.clone());
            self.0 = now.clone().map(|(id, _)| Row { id, owner: owner(id) }).collect();
        }
        for (row, (_, owner)) in self.0.iter_mut().zip(now) {
            if let Some(owner) = owner {
                row.set(owner);
            }
        }
    }
}

impl Row {
    fn set(&mut self, owner: &Arc<Owner>) {
        let is_news = match &self.owner {
            None => true,
            Some(before) => !Arc::ptr_eq(before, owner) && owner.kind() != OwnerKind::Kernel,
        };
        if is_news {
            self.owner = Some(Arc::clone(owner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::example::{process, program, snapshot};
    use crate::model::{Identity, Program};

    fn owned(id: u32, owner: Option<&Arc<Owner>>) -> Program {
        Program { owner: owner.cloned(), ..program(id, &[]) }
    }

    #[test]
    fn an_owner_is_kept_once_the_object_has_none_and_until_it_is_gone() {
        let [agent, other, kernel] =
            [process(1), process(2), Identity::default()].map(|identity| Arc::new(Owner::from(identity)));
        let mut owners = LastOwners::default();
        let mut after = |programs: Vec<Program>| {
            owners.update(&snapshot(programs, Vec::new(), Vec::new()));
            [1, 2, 3].map(|id| owners.of(Kind::Program, id).cloned())
        };
        assert_eq!(after(vec![owned(1, Some(&agent)), owned(2, None)]), [Some(agent.clone()), None, None]);
        let two = vec![owned(1, Some(&kernel)), owned(2, Some(&kernel))];
        assert_eq!(after(two), [Some(agent.clone()), Some(kernel.clone()), None]);
        let two = vec![owned(1, None), owned(2, Some(&other))];
        assert_eq!(after(two), [Some(agent.clone()), Some(other.clone()), None]);
        let two = vec![owned(1, Some(&other)), owned(3, Some(&agent))];
        assert_eq!(after(two), [Some(other), None, Some(agent)], "2 is gone");
    }
}
