//! What happens at a given time of the measurement: as a scenario says it, and resolved to connections by number.

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;

use super::scenario::{GroupReading, needed_duration};
use super::{Load, Reading};
use crate::rng::Rng;
use crate::sys::signal::Signal;

/// The first wait before a reconnect is up to this, unless an event says otherwise.
const BACKOFF_NS_DEFAULT: u64 = 100_000_000;
const BACKOFF_NS_MAX_DEFAULT: u64 = 5_000_000_000;

/// Numbers drawn for the events are a stream of their own.
const RNG_STREAM: u64 = 1 << 33;

/// One event of a load.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// After the beginning of the measurement.
    pub(crate) at_ns: u64,
    /// For people.
    pub(crate) what: String,
    pub(crate) action: Action,
}

/// What an event does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Connections are reset, as of clients that are gone; with a backoff they come back.
    Cut { connections: Vec<u32>, backoff: Option<Backoff> },
    /// Connections read in another way from now on.
    Read { connections: Vec<u32>, reading: Reading },
    /// The publishers' schedules have it already.
    Rate,
    /// To the server's process.
    Signal(Signal),
}

/// How long a connection that was cut waits before it comes back: anywhere between 0 and a limit that each failure
/// doubles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backoff {
    /// The first limit.
    pub(crate) first_ns: u64,
    pub(crate) max_ns: u64,
}

/// An event as a scenario says it: `at` and one of the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventSpec {
    #[serde(deserialize_with = "needed_duration")]
    at: u64,
    disconnect: Option<Disconnect>,
    reconnect: Option<Reconnect>,
    reading: Option<NewReading>,
    rate: Option<NewRate>,
    signal: Option<Signal>,
}

/// A share of a group's subscribers goes and stays away.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    group: String,
    #[serde(default = "all")]
    share: f64,
}

/// A share of a group's subscribers is cut and comes back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconnect {
    group: String,
    #[serde(default = "all")]
    share: f64,
    #[serde(default = "backoff_default", deserialize_with = "needed_duration")]
    backoff: u64,
    #[serde(default = "backoff_max_default", deserialize_with = "needed_duration")]
    backoff_max: u64,
}

/// A share of a group's subscribers reads in another way.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewReading {
    group: String,
    #[serde(default = "all")]
    share: f64,
    #[serde(with = "serde_yaml::with::singleton_map")]
    to: GroupReading,
}

/// A group's publishers together send so many messages per second from now on; 0: none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRate {
    group: String,
    to: f64,
}

/// What the events make of one group from the beginning.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Its subscribers read slowly at some time.
    pub(super) is_slowed: bool,
    /// Rates of its publishers by when they begin, in ns after the schedule's start; ascending.
    pub(super) steps: Vec<(u64, f64)>,
}

impl Effects {
    /// On the group of that name.
    pub(super) fn on(name: Option<&str>, events: &[EventSpec], warmup_ns: u64) -> Self {
        let Some(name) = name else { return Self::default() };
        let of_group = |event: &EventSpec| {
            let rate = event.rate.as_ref().filter(|rate| rate.group == name)?;
            Some((warmup_ns + event.at, rate.to))
        };
        let mut steps: Vec<_> = events.iter().filter_map(of_group).collect();
        steps.sort_by_key(|(from_ns, _)| *from_ns);
        let is_slowed = events.iter().any(|event| event.reading.as_ref().is_some_and(|to| to.group == name));
        Self { is_slowed, steps }
    }
}

/// The connections of one group.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    pub(super) subscribers: Range<u32>,
    /// Whether its publishers have a rate.
    pub(super) has_rate: bool,
}

impl EventSpec {
    /// # Errors
    /// What is wrong with its values.
    pub(super) fn check(&self) -> Result<(), String> {
        let kinds = [self.disconnect.is_some(), self.reconnect.is_some(), self.reading.is_some()];
        let kinds = kinds.into_iter().chain([self.rate.is_some(), self.signal.is_some()]).filter(|is| *is).count();
        if kinds != 1 {
            return Err("at goes with one of disconnect, reconnect, reading, rate, signal".into());
        }
        let shares = [self.disconnect.as_ref().map(|d| d.share), self.reconnect.as_ref().map(|r| r.share)];
        let shares = shares.into_iter().chain([self.reading.as_ref().map(|r| r.share)]).flatten();
        if let Some(share) = shares.into_iter().find(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(format!("{share} is no share above 0 and up to 1"));
        }
        if self.rate.as_ref().is_some_and(|rate| !(rate.to.is_finite() && rate.to >= 0.0)) {
            return Err("a rate must be 0 or above".into());
        }
        self.reading.as_ref().map_or(Ok(()), |reading| reading.to.check())
    }

    /// Resolves it: chooses the connections by the load's seed. `number` is its place among the events.
    ///
    /// # Errors
    /// A group that does not exist or has nobody to do it to, or a time outside the measurement.
    fn resolve(&self, load: &Load, groups: &HashMap<&str, Members>, number: u64) -> Result<Event, String> {
        if self.at >= load.measure_ns {
            return Err(format!("at lies outside the measurement, which takes {} s", load.measure_ns as f64 / 1e9));
        }
        let mut rng = Rng::new(load.seed, RNG_STREAM + number);
        let mut choose = |group: &str, share: f64| {
            let members = find(groups, group)?.subscribers.clone();
            match members.is_empty() {
                true => Err(format!("group {group} has no subscribers")),
                false => Ok(sample(members, share, &mut rng)),
            }
        };
        let (what, action) = if let Some(Disconnect { group, share }) = &self.disconnect {
            let connections = choose(group, *share)?;
            let what = format!("{} of {group} disconnect", connections.len());
            (what, Action::Cut { connections, backoff: None })
        } else if let Some(Reconnect { group, share, backoff, backoff_max }) = &self.reconnect {
            let connections = choose(group, *share)?;
            let what = format!("{} of {group} are cut and come back", connections.len());
            let backoff = Some(Backoff { first_ns: *backoff, max_ns: (*backoff_max).max(*backoff) });
            (what, Action::Cut { connections, backoff })
        } else if let Some(NewReading { group, share, to }) = &self.reading {
            let (connections, reading) = (choose(group, *share)?, to.resolve());
            let what = format!("{} of {group} read {}", connections.len(), reading.describe());
            (what, Action::Read { connections, reading })
        } else if let Some(NewRate { group, to }) = &self.rate {
            if !find(groups, group)?.has_rate {
                return Err(format!("group {group} has no publishers with a rate"));
            }
            (format!("{group} publish {to}/s"), Action::Rate)
        } else if let Some(signal) = self.signal {
            (format!("SIG{} to the server", signal.name()), Action::Signal(signal))
        } else {
            return Err("nothing is to happen".into());
        };
        Ok(Event { at_ns: self.at, what, action })
    }
}

/// Resolves all events of a scenario into its load.
///
/// # Errors
/// Which event cannot be, and why.
pub(super) fn resolve(events: &[EventSpec], load: &mut Load, groups: &HashMap<&str, Members>) -> Result<(), String> {
    for (index, event) in events.iter().enumerate() {
        let wrong = |reason: String| format!("events[{index}]: {reason}");
        let event = event.resolve(load, groups, index as u64).map_err(wrong)?;
        if let Action::Cut { connections, .. } = &event.action
            && load.is_closed_loop()
            && connections.iter().any(|id| load.connections[*id as usize].is_subscriber)
        {
            return Err(wrong("subscribers can be cut under a rate only, outstanding messages wait for all".into()));
        }
        load.events.push(event);
    }
    load.events.sort_by_key(|event| event.at_ns);
    Ok(())
}

impl Reading {
    fn describe(self) -> String {
        match self {
            Self::Full => "at full speed".into(),
            Self::Stopped => "nothing".into(),
            Self::Throttled { bytes_per_s } => format!("{bytes_per_s} B/s"),
            Self::Stalling { stall_ns, every_ns } => {
                format!("with stalls of {} s every {} s", stall_ns as f64 / 1e9, every_ns as f64 / 1e9)
            }
        }
    }
}

/// `share` of `members`, at least one, chosen at random.
pub(crate) fn sample(members: Range<u32>, share: f64, rng: &mut Rng) -> Vec<u32> {
    let mut members: Vec<u32> = members.collect();
    let count = ((members.len() as f64 * share).round() as usize).max(1).min(members.len());
    for at in 0..count {
        let other = at + rng.next_u64() as usize % (members.len() - at);
        members.swap(at, other);
    }
    members.truncate(count);
    members
}

fn find<'a>(groups: &'a HashMap<&str, Members>, name: &str) -> Result<&'a Members, String> {
    groups.get(name).ok_or_else(|| {
        let mut names: Vec<_> = groups.keys().copied().collect();
        names.sort_unstable();
        match names.as_slice() {
            [] => format!("no group is named {name}: give one a name"),
            names => format!("no group is named {name}, only {}", names.join(", ")),
        }
    })
}

fn all() -> f64 {
    1.0
}

fn backoff_default() -> u64 {
    BACKOFF_NS_DEFAULT
}

fn backoff_max_default() -> u64 {
    BACKOFF_NS_MAX_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_without_repetition_and_the_same_for_a_seed() {
        let draw = |seed| sample(10..110, 0.25, &mut Rng::new(seed, 1));
        let mut drawn = draw(1);
        assert_eq!((drawn.len(), drawn == draw(1), drawn == draw(2)), (25, true, false));
        drawn.sort_unstable();
        drawn.dedup();
        assert!(drawn.len() == 25 && drawn.iter().all(|member| (10..110).contains(member)));
        assert_eq!(sample(5..8, 0.01, &mut Rng::new(1, 1)).len(), 1);
        assert!(sample(5..5, 1.0, &mut Rng::new(1, 1)).is_empty());
    }
}
