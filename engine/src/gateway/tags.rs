//! The tags of a connection: text by name, in the order of the names.

use std::fmt;
use std::sync::Arc;

/// Names and their values, sorted by name; cheap to clone, shared by all connections that have the same.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tags(Arc<[(Arc<str>, Arc<str>)]>);

impl Tags {
    /// The value of a tag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).map(|index| &*self.0[index].1)
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// All of them, as what they are shared as.
    pub(super) fn shared(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// These tags after `changes`: an empty value deletes, the last of several for one name counts.
    #[must_use]
    pub(crate) fn changed(&self, changes: &[(Arc<str>, Arc<str>)]) -> Self {
        let mut all = self.0.to_vec();
        for (name, value) in changes {
            match all.binary_search_by(|(other, _)| other.cmp(name)) {
                Ok(index) if value.is_empty() => {
                    all.remove(index);
                }
                Ok(index) => all[index].1 = Arc::clone(value),
                Err(_) if value.is_empty() => {}
                Err(index) => all.insert(index, (Arc::clone(name), Arc::clone(value))),
            }
        }
        Self(all.into())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok()
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Tags {
    /// Empty values are no tags; the last of several for one name counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(tags: I) -> Self {
        let tags: Vec<_> = tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self::default().changed(&tags)
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_replace_add_and_delete() {
        let tags = Tags::from_iter([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        let changes = [("a", ""), ("b", "4"), ("nobody", ""), ("0", "zero")].map(|(n, v)| (n.into(), v.into()));
        let changed = tags.changed(&changes);
        assert_eq!(changed.iter().collect::<Vec<_>>(), [("0", "zero"), ("b", "4")]);
        assert_eq!((changed.get("0"), changed.get("a"), tags.get("a")), (Some("zero"), None, Some("1")));
    }
}
