//! The names of a topic's members: no two alike.
//!
//! In: a wanted name; out: that name if it is free, else the first free of NAME_2, NAME_3, … with NAME cut so that the
//! whole keeps the limit. The first free number is found in O(log n), however many want the same name: the default name
//! of a client is the one that thousands have.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Who has a name: a connection by its shard and slot. Both are its own until it gives the name back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Holder {
    pub shard: u32,
    pub slot: u32,
}

/// The least number that is appended.
const NUMBER_MIN: u64 = 2;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_holder: HashMap<Holder, Arc<str>>,
    taken: HashSet<Arc<str>>,
    /// For each beginning, the numbers of the taken names that consist of it, `_` and a number.
    numbers: HashMap<Box<str>, Numbers>,
}

impl Names {
    /// Gives `holder` the wanted name or one made of it, of at most `chars_max` characters; `None` if all of those are
    /// taken, which takes a limit of a few characters.
    pub(crate) fn take(
        &mut self,
        holder: Holder,
        wanted: &str,
        chars_max: usize,
        is_reserved: impl Fn(&str) -> bool,
    ) -> Option<Arc<str>> {
        let whole = cut(wanted, chars_max);
        let name: Arc<str> = if is_reserved(whole) || self.taken.contains(whole) {
            self.numbered(whole, chars_max)?.into()
        } else {
            whole.into()
        };
        if let Some((beginning, number)) = parts(&name) {
            self.numbers.entry(beginning.into()).or_default().insert(number);
        }
        self.taken.insert(Arc::clone(&name));
        let former = self.by_holder.insert(holder, Arc::clone(&name));
        debug_assert!(former.is_none(), "a connection has one name");
        Some(name)
    }

    /// Takes the holder's name back.
    pub(crate) fn free(&mut self, holder: Holder) -> Option<Arc<str>> {
        let name = self.by_holder.remove(&holder)?;
        self.taken.remove(&name);
        if let Some((beginning, number)) = parts(&name)
            && let Some(numbers) = self.numbers.get_mut(beginning)
        {
            numbers.remove(number);
            if numbers.0.is_empty() {
                self.numbers.remove(beginning);
            }
        }
        Some(name)
    }

    /// The first free of `wanted_2`, `wanted_3`, …; the more digits, the less of `wanted`.
    fn numbered(&self, wanted: &str, chars_max: usize) -> Option<String> {
        // One character is left, and a number of 19 digits is a u64.
        let digits_max = chars_max.saturating_sub(2).min(19) as u32;
        (1..=digits_max).find_map(|digits| {
            let beginning = cut(wanted, chars_max - 1 - digits as usize);
            let least = 10_u64.pow(digits - 1).max(NUMBER_MIN);
            let free = self.numbers.get(beginning).map_or(least, |numbers| numbers.first_free(least));
            (free < 10_u64.pow(digits)).then(|| format!("{beginning}_{free}"))
        })
    }
}

/// Numbers that are taken, as runs: first → last.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// The first number from `least` on that is not taken.
    fn first_free(&self, least: u64) -> u64 {
        match self.0.range(..=least).next_back() {
            Some((_, last)) if *last >= least => last + 1,
            _ => least,
        }
    }

    fn insert(&mut self, number: u64) {
        let before = self.0.range(..number).next_back().filter(|(_, last)| **last + 1 == number);
        let first = before.map_or(number, |(first, _)| *first);
        let last = self.0.remove(&(number + 1)).unwrap_or(number);
        self.0.insert(first, last);
    }

    fn remove(&mut self, number: u64) {
        let Some((&first, &last)) = self.0.range(..=number).next_back().filter(|(_, last)| **last >= number) else {
            return;
        };
        if first == number {
            self.0.remove(&first);
        } else {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
    }
}

/// The first `chars_max` characters.
fn cut(name: &str, chars_max: usize) -> &str {
    name.char_indices().nth(chars_max).map_or(name, |(end, _)| &name[..end])
}

/// What a numbered name is made of: `None` if its end is not written as [`Names::numbered`] writes it.
fn parts(name: &str) -> Option<(&str, u64)> {
    let (beginning, digits) = name.rsplit_once('_')?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0') && digits.len() <= 19;
    let number = digits.parse().ok().filter(|number| *number >= NUMBER_MIN)?;
    (canonical && !beginning.is_empty()).then_some((beginning, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder(slot: u32) -> Holder {
        Holder { shard: 0, slot }
    }

    fn is_server(name: &str) -> bool {
        name.eq_ignore_ascii_case("server")
    }

    /// Takes names one after the other and shows what was given.
    fn given(wanted: &[&str], chars_max: usize) -> Vec<String> {
        let mut names = Names::default();
        let take = |(slot, wanted): (usize, &&str)| names.take(holder(slot as u32), wanted, chars_max, is_server);
        wanted.iter().enumerate().map(take).map(|name| name.map_or("-".to_owned(), |name| name.to_string())).collect()
    }

    #[test]
    fn a_taken_name_is_numbered_and_a_reserved_one_counts_as_taken() {
        assert_eq!(given(&["ada", "ada", "ada", "Ada"], 50), ["ada", "ada_2", "ada_3", "Ada"]);
        assert_eq!(
            given(&["sErVer", "sErVer", "SERVER", "SERVER_2"], 50),
            ["sErVer_2", "sErVer_3", "SERVER_2", "SERVER_2_2"]
        );
        assert_eq!(given(&["a_2", "a", "a", "a_03", "a"], 50), ["a_2", "a", "a_3", "a_03", "a_4"]);
    }

    #[test]
    fn a_numbered_name_is_cut_between_characters_so_that_it_fits() {
        let long = "é".repeat(50);
        let mut expected = vec![long.clone()];
        expected.extend((2..10).map(|number| format!("{}_{number}", "é".repeat(48))));
        expected.extend((10..12).map(|number| format!("{}_{number}", "é".repeat(47))));
        assert_eq!(given(&[&*long; 11], 50), expected);
        assert_eq!(given(&["abcdef"; 3], 4), ["abcd", "ab_2", "ab_3"]);
    }

    #[test]
    fn where_no_number_fits_any_more_there_is_no_name() {
        assert_eq!(given(&["a", "a"], 1), ["a", "-"]);
        assert_eq!(given(&["a", "a"], 2), ["a", "-"]);
        assert_eq!(given(&["a"; 10], 3), ["a", "a_2", "a_3", "a_4", "a_5", "a_6", "a_7", "a_8", "a_9", "-"]);
    }

    #[test]
    fn a_name_that_was_given_back_is_given_again() {
        let mut names = Names::default();
        for slot in 0..5 {
            names.take(holder(slot), "ada", 50, is_server);
        }
        assert_eq!(names.free(holder(2)).as_deref(), Some("ada_3"));
        assert_eq!(names.free(holder(2)), None);
        assert_eq!(names.take(holder(9), "ada", 50, is_server).as_deref(), Some("ada_3"));
        (0..10).for_each(|slot| drop(names.free(holder(slot))));
        assert!(names.taken.is_empty() && names.numbers.is_empty() && names.by_holder.is_empty());
    }

    /// The rule without its index: tries every name in turn.
    fn by_trying(taken: &HashSet<String>, wanted: &str, chars_max: usize) -> Option<String> {
        let whole: String = wanted.chars().take(chars_max).collect();
        let numbered = (NUMBER_MIN..1000).filter_map(|number| {
            let beginning: String = whole.chars().take(chars_max.checked_sub(number.to_string().len() + 1)?).collect();
            (!beginning.is_empty()).then(|| format!("{beginning}_{number}"))
        });
        let mut all = std::iter::once(whole.clone()).chain(numbered);
        all.find(|name| !is_server(name) && !taken.contains(name))
    }

    proptest! {
        #[test]
        fn names_are_those_that_trying_one_by_one_would_give(
            chars_max in 3_usize..8,
            steps in prop::collection::vec((0_u32..40, "(a|é|_|[0-3]|a_|aa_1|server){1,4}", any::<bool>()), 1..120),
        ) {
            let (mut names, mut taken, mut held) = (Names::default(), HashSet::new(), HashMap::<u32, String>::new());
            for (slot, wanted, comes) in steps {
                if let Some(name) = held.remove(&slot) {
                    let freed = names.free(holder(slot));
                    prop_assert_eq!(freed.as_deref(), Some(&*name));
                    taken.remove(&name);
                }
                if comes {
                    let expected = by_trying(&taken, &wanted, chars_max);
                    let name = names.take(holder(slot), &wanted, chars_max, is_server);
                    prop_assert_eq!(name.as_deref(), expected.as_deref());
                    if let Some(name) = expected {
                        prop_assert!(name.chars().count() <= chars_max);
                        taken.insert(name.clone());
                        held.insert(slot, name);
                    }
                }
            }
        }
    }
}
