//! The gateway connections of one shard: by id, and by tag, so that a selector costs as much as it matches.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{Selector, Tags};

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub id: Uuid,
    pub tags: Tags,
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Registry {
    /// By the connection's slot.
    members: HashMap<u32, Member>,
    by_id: HashMap<Uuid, u32>,
    /// Slots by tag and value; no set and no map in here is empty.
    by_tag: HashMap<Arc<str>, HashMap<Arc<str>, HashSet<u32>>>,
}

impl Registry {
    /// Adds the connection in `slot`.
    pub(crate) fn insert(&mut self, slot: u32, member: Member) {
        self.by_id.insert(member.id, slot);
        for (name, value) in member.tags.shared() {
            self.index(name, value, slot);
        }
        let before = self.members.insert(slot, member);
        debug_assert!(before.is_none(), "a slot has one connection at a time");
    }

    /// Takes the connection in `slot` out.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Member> {
        let member = self.members.remove(&slot)?;
        self.by_id.remove(&member.id);
        for (name, value) in member.tags.shared() {
            self.unindex(name, value, slot);
        }
        Some(member)
    }

    /// The connection in `slot`.
    pub(crate) fn member(&self, slot: u32) -> Option<&Member> {
        self.members.get(&slot)
    }

    /// All connections, by slot.
    pub(crate) fn members(&self) -> impl Iterator<Item = (u32, &Member)> {
        self.members.iter().map(|(slot, member)| (*slot, member))
    }

    /// Changes tags of the connection in `slot`; an empty value deletes. Returns it if anything changed.
    pub(crate) fn set_tags(&mut self, slot: u32, changes: &[(Arc<str>, Arc<str>)]) -> Option<&Member> {
        let before = self.members.get(&slot)?.tags.clone();
        let after = before.changed(changes);
        if after == before {
            return None;
        }
        for (name, value) in before.shared().iter().filter(|(name, value)| after.get(name) != Some(value)) {
            self.unindex(name, value, slot);
        }
        for (name, value) in after.shared().iter().filter(|(name, value)| before.get(name) != Some(value)) {
            self.index(name, value, slot);
        }
        let member = self.members.get_mut(&slot)?;
        member.tags = after;
        Some(member)
    }

    /// Appends the slots that a selector means.
    pub(crate) fn select(&self, selector: &Selector, slots: &mut Vec<u32>) {
        match selector {
            Selector::Ids(ids) => slots.extend(ids.iter().filter_map(|id| self.by_id.get(id))),
            Selector::Tags(tags) => self.select_by_tags(tags, slots),
        }
    }

    /// Looks through the rarest of the tags.
    fn select_by_tags(&self, tags: &[(Arc<str>, Arc<str>)], slots: &mut Vec<u32>) {
        let sets: Option<Vec<_>> =
            tags.iter().map(|(name, value)| self.by_tag.get(name).and_then(|values| values.get(value))).collect();
        let Some(mut sets) = sets else { return };
        sets.sort_unstable_by_key(|set| set.len());
        let Some((rarest, others)) = sets.split_first() else { return };
        slots.extend(rarest.iter().filter(|slot| others.iter().all(|set| set.contains(slot))));
    }

    fn index(&mut self, name: &Arc<str>, value: &Arc<str>, slot: u32) {
        let values = self.by_tag.entry(Arc::clone(name)).or_default();
        values.entry(Arc::clone(value)).or_default().insert(slot);
    }

    fn unindex(&mut self, name: &Arc<str>, value: &Arc<str>, slot: u32) {
        let Some(values) = self.by_tag.get_mut(name) else { return };
        if let Some(slots) = values.get_mut(value) {
            slots.remove(&slot);
            if slots.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_tag.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(name: u8, value: u8) -> (Arc<str>, Arc<str>) {
        let value = if value == 0 { String::new() } else { value.to_string() };
        (format!("t{name}").into(), value.into())
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32, Vec<(u8, u8)>),
        Remove(u32),
        SetTags(u32, Vec<(u8, u8)>),
        Select(Vec<(u8, u8)>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let tags = || proptest::collection::vec((0..4_u8, 0..3_u8), 0..4);
        let step = prop_oneof![
            (0..12_u32, tags()).prop_map(|(slot, tags)| Step::Insert(slot, tags)),
            (0..12_u32).prop_map(Step::Remove),
            (0..12_u32, tags()).prop_map(|(slot, tags)| Step::SetTags(slot, tags)),
            tags().prop_map(Step::Select),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        #[test]
        fn the_index_selects_what_a_look_at_everybody_would(steps in steps()) {
            let mut registry = Registry::default();
            let as_tags = |tags: &[(u8, u8)]| tags.iter().map(|(n, v)| tag(*n, *v)).collect::<Vec<_>>();
            for step in steps {
                match step {
                    Step::Insert(slot, tags) if registry.member(slot).is_none() => {
                        let id = Uuid::from_u128(u128::from(slot));
                        registry.insert(slot, Member { id, tags: as_tags(&tags).into_iter().collect() });
                    }
                    Step::Insert(..) => {}
                    Step::Remove(slot) => {
                        registry.remove(slot);
                    }
                    Step::SetTags(slot, tags) => {
                        registry.set_tags(slot, &as_tags(&tags));
                    }
                    Step::Select(tags) => {
                        let wanted = as_tags(&tags);
                        let holds = |member: &Member| wanted.iter().all(|(n, v)| member.tags.get(n) == Some(v));
                        let mut expected: Vec<u32> = registry
                            .members
                            .iter()
                            .filter(|(_, member)| !wanted.is_empty() && holds(member))
                            .map(|(slot, _)| *slot)
                            .collect();
                        let mut found = Vec::new();
                        registry.select(&Selector::Tags(wanted), &mut found);
                        expected.sort_unstable();
                        found.sort_unstable();
                        prop_assert_eq!(found, expected);
                    }
                }
            }
            let slots: Vec<u32> = registry.members.keys().copied().collect();
            slots.iter().for_each(|slot| { registry.remove(*slot); });
            prop_assert!(registry.by_id.is_empty() && registry.by_tag.is_empty(), "nothing is left behind");
        }
    }
}
