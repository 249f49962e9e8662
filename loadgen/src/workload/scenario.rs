//! Scenarios: a YAML file of groups, phases and objectives becomes a load. Wrong keys are errors with their line.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::build::{self, Common, Pacing, Spread, Target};
use super::events::{self, Effects, EventSpec, Members};
use super::{Connection, Load, Pace, Publisher, Reading, Topic};
use crate::cli::units;
use crate::measure::stamp::STAMP_BYTES;
use crate::report::slo::Slo;
use crate::wire::frame;
use crate::wire::handshake::Request;
use crate::wire::url::WsUrl;

/// A scenario file; every key but `groups` may be left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Where to connect; `{topic}` in it becomes a group's topic. `--url` wins.
    pub(crate) url: Option<String>,
    pub(crate) seed: Option<u64>,
    /// What must hold. `--slo` wins.
    #[serde(default, deserialize_with = "slo")]
    pub(crate) slo: Option<Slo>,
    #[serde(default)]
    pub(crate) connect: Connect,
    #[serde(default)]
    pub(crate) phases: Phases,
    groups: Vec<Group>,
    /// What happens during the measurement.
    #[serde(default)]
    events: Vec<EventSpec>,
}

/// How connections are opened.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    /// New connections per second; without it as fast as they are accepted.
    #[serde(default)]
    pub(crate) rate: Option<f64>,
    /// Each connect is up to so much before or after its time at that rate, at random.
    #[serde(default, deserialize_with = "duration")]
    pub(crate) jitter: Option<u64>,
}

/// Lengths of the phases.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phases {
    #[serde(default, deserialize_with = "duration")]
    pub(crate) warmup: Option<u64>,
    #[serde(default, deserialize_with = "duration")]
    pub(crate) measure: Option<u64>,
    #[serde(default, deserialize_with = "duration")]
    pub(crate) drain: Option<u64>,
}

/// Connections of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// What events call it.
    name: Option<String>,
    /// Connections that hear the topics; each message to each is accounted for, unless `reading` is slow.
    #[serde(default)]
    subscribers: u32,
    /// Connections that publish.
    #[serde(default)]
    publishers: u32,
    /// Name of the topic; `{n}` in it runs from 0 to `topics`, the connections being dealt round.
    #[serde(default)]
    topic: String,
    #[serde(default = "one")]
    topics: u32,
    /// Messages per second of the group's publishers together.
    rate: Option<f64>,
    /// Closed loop instead: messages in flight per publisher.
    outstanding: Option<u32>,
    #[serde(default, with = "serde_yaml::with::singleton_map")]
    arrivals: ArrivalShape,
    /// Payload with the stamp, in bytes.
    #[serde(default = "size_default")]
    size: usize,
    #[serde(default)]
    text: bool,
    /// How the group's subscribers read.
    #[serde(default, with = "serde_yaml::with::singleton_map")]
    reading: GroupReading,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ArrivalShape {
    #[default]
    Uniform,
    Poisson,
    /// So many at once.
    Burst(u32),
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum GroupReading {
    #[default]
    Full,
    Stopped,
    /// Bytes per second.
    Throttled(f64),
    Stalling {
        #[serde(deserialize_with = "needed_duration")]
        stall: u64,
        #[serde(deserialize_with = "needed_duration")]
        every: u64,
    },
}

impl Scenario {
    /// # Errors
    /// A sentence with the file, what is wrong in it, and the line.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let scenario: Self = serde_yaml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        for (index, group) in scenario.groups.iter().enumerate() {
            group.check().map_err(|e| format!("{}: groups[{index}]: {e}", path.display()))?;
        }
        for (index, event) in scenario.events.iter().enumerate() {
            event.check().map_err(|e| format!("{}: events[{index}]: {e}", path.display()))?;
        }
        Ok(scenario)
    }

    /// Resolves the groups.
    ///
    /// # Errors
    /// A header that cannot be sent, a topic that the URL has no place for, or an event that cannot be.
    pub(crate) fn load(&self, target: &Target, common: &Common) -> Result<Load, String> {
        let mut load = build::empty(target, common);
        let mut numbers = HashMap::new();
        let mut groups = HashMap::new();
        let has_place = target.url.resource.contains("{topic}");
        for group in &self.groups {
            if group.topic.is_empty() == has_place {
                let what =
                    if has_place { "needs a topic for {topic} in" } else { "has a topic, but there is no {topic} in" };
                return Err(format!("a group {what} the URL's path {}", target.url.resource));
            }
            let effects = Effects::on(group.name.as_deref(), &self.events, common.warmup_ns);
            let members = group.join(&mut load, &mut numbers, target, common, &effects)?;
            if let Some(name) = &group.name
                && groups.insert(name.as_str(), members).is_some()
            {
                return Err(format!("two groups are named {name}"));
            }
        }
        events::resolve(&self.events, &mut load, &groups)?;
        Ok(load)
    }
}

impl Group {
    fn check(&self) -> Result<(), String> {
        let positive = |name: &str, value: Option<f64>| match value {
            Some(value) if !(value.is_finite() && value > 0.0) => Err(format!("{name} must be above 0")),
            _ => Ok(()),
        };
        positive("rate", self.rate)?;
        self.reading.check()?;
        match (self.publishers, self.rate, self.outstanding) {
            (0, None, None) => {}
            (0, ..) => return Err("rate and outstanding are for publishers".into()),
            (_, Some(_), Some(_)) => return Err("either rate or outstanding, not both".into()),
            (_, None, None) => return Err("publishers need a rate or outstanding".into()),
            (_, _, Some(0)) => return Err("outstanding must be above 0".into()),
            _ => {}
        }
        match self {
            Self { topics: 0, .. } => Err("topics must be above 0".into()),
            Self { size, .. } if *size < STAMP_BYTES => Err(format!("size: the stamp alone takes {STAMP_BYTES} bytes")),
            Self { arrivals: ArrivalShape::Burst(0), .. } => Err("a burst has at least one message".into()),
            Self { topics, topic, .. } if *topics > 1 && !topic.contains("{n}") => {
                Err("several topics need {n} in their name".into())
            }
            _ => Ok(()),
        }
    }

    fn join(
        &self,
        load: &mut Load,
        numbers: &mut HashMap<String, u32>,
        target: &Target,
        common: &Common,
        effects: &Effects,
    ) -> Result<Members, String> {
        let mut topics = Vec::new();
        for n in 0..self.topics {
            let name = self.topic.replace("{n}", &n.to_string());
            let resource = target.url.resource.replace("{topic}", &name);
            let number = match numbers.get(&name) {
                Some(number) => *number,
                None => {
                    let url = WsUrl { resource, ..target.url.clone() };
                    load.requests.push(Request::new(&url, &target.headers, &target.subprotocols)?);
                    let number = load.topics.len() as u32;
                    load.topics.push(Topic { request: number, subscribers: 0, publishers: 0 });
                    numbers.insert(name, number);
                    number
                }
            };
            topics.push(number);
        }
        let reading = self.reading.resolve();
        let is_slow = effects.is_slowed || reading != Reading::Full;
        let dealt = |index: u32| topics[(index % self.topics) as usize];
        let first = load.connections.len() as u32;
        for index in 0..self.subscribers {
            load.topics[dealt(index) as usize].subscribers += u32::from(!is_slow);
            let bystander = Connection::bystander(dealt(index));
            load.connections.push(Connection { is_subscriber: !is_slow, reading, is_slow, ..bystander });
        }
        let members = Members {
            subscribers: first..load.connections.len() as u32,
            has_rate: self.publishers > 0 && self.rate.is_some(),
        };
        let pacing = match (self.rate, self.outstanding) {
            (Some(rate), _) => Pacing::Rate(rate),
            (None, window) => Pacing::Outstanding(window.unwrap_or(1)),
        };
        let spread = match self.arrivals {
            ArrivalShape::Uniform => Spread::Uniform,
            ArrivalShape::Poisson => Spread::Poisson,
            ArrivalShape::Burst(count) => Spread::Burst(u64::from(count)),
        };
        let common = Common { spread, ..common.clone() };
        for index in 0..self.publishers {
            let publisher = Some(load.publishers.len() as u32);
            let mut pace = build::pace(&common, pacing, index, self.publishers);
            if let Pace::Scheduled(arrivals) = &mut pace {
                for (from_ns, rate) in &effects.steps {
                    arrivals.step(*from_ns, build::arrivals(&common, *rate, index, self.publishers));
                }
            }
            let topic = &mut load.topics[dealt(index) as usize];
            load.publishers.push(Publisher {
                topic: dealt(index),
                index_in_topic: topic.publishers,
                size: self.size,
                opcode: if self.text { frame::TEXT } else { frame::BINARY },
                pace,
                messages_max: None,
            });
            topic.publishers += 1;
            load.connections.push(Connection { publisher, ..Connection::bystander(dealt(index)) });
        }
        Ok(members)
    }
}

impl GroupReading {
    /// # Errors
    /// What is wrong with its values.
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            Self::Throttled(bytes_per_s) if !(bytes_per_s.is_finite() && bytes_per_s > 0.0) => {
                Err("throttled must be above 0".into())
            }
            Self::Stalling { stall, every } if stall == 0 || stall >= every => {
                Err("a stall must be above 0 and shorter than every".into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn resolve(self) -> Reading {
        match self {
            Self::Full => Reading::Full,
            Self::Stopped => Reading::Stopped,
            Self::Throttled(bytes_per_s) => Reading::Throttled { bytes_per_s },
            Self::Stalling { stall, every } => Reading::Stalling { stall_ns: stall, every_ns: every },
        }
    }
}

fn one() -> u32 {
    1
}

fn size_default() -> usize {
    64
}

fn slo<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Slo>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Slo::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn needed_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::duration_ns(&text).map_err(serde::de::Error::custom)
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    needed_duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, String> {
        let name = format!("loadgen-scenario-{}-{:x}", std::process::id(), text.len() * 31 + text.as_ptr() as usize);
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let scenario = Scenario::read(&path);
        std::fs::remove_file(path).unwrap();
        scenario
    }

    const WHOLE: &str = "
url: ws://127.0.0.1:1/rooms/{topic}
seed: 7
slo: p99<20ms
connect: {rate: 500}
phases: {warmup: 1s, measure: 2s, drain: 3s}
groups:
  - {subscribers: 6, topic: 'room-{n}', topics: 3}
  - {subscribers: 2, topic: room-1, reading: stopped}
  - {subscribers: 1, topic: room-1, reading: {throttled: 100}}
  - {subscribers: 1, topic: room-1, reading: {stalling: {stall: 1s, every: 3s}}}
  - {publishers: 3, topic: 'room-{n}', topics: 3, rate: 30, arrivals: poisson, size: 100, text: true}
  - {publishers: 1, topic: room-0, outstanding: 4, arrivals: {burst: 3}}
";

    #[test]
    fn groups_meet_on_topics_of_the_same_name() {
        let scenario = read(WHOLE).unwrap();
        let url = WsUrl::parse(scenario.url.as_deref().unwrap()).unwrap();
        let target = Target {
            address: "127.0.0.1:1".parse().unwrap(),
            url,
            tls: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
        };
        let load = scenario.load(&target, &Common::default()).unwrap();
        let topics: Vec<_> = load.topics.iter().map(|topic| (topic.subscribers, topic.publishers)).collect();
        assert_eq!(topics, [(2, 2), (2, 1), (2, 1)]);
        assert_eq!((load.connections.len(), load.publishers[3].index_in_topic), (14, 1));
        assert_eq!(load.connections.iter().filter(|c| c.reading != Reading::Full).count(), 4);
        assert_eq!(scenario.phases.measure, Some(2_000_000_000));
    }

    #[test]
    fn wrong_keys_and_values_are_errors_with_their_place() {
        for (text, said) in [
            ("groups:\n  - {subscribers: 1}\n  - {subscriberz: 1}\n", "line 3"),
            ("groups: []\nphase: {}\n", "line 2"),
            ("groups:\n  - {publishers: 1}\n", "groups[0]: publishers need a rate"),
            ("groups:\n  - {publishers: 1, rate: 0}\n", "rate must be above 0"),
            ("groups:\n  - {subscribers: 1, rate: 5}\n", "for publishers"),
            ("groups:\n  - {subscribers: 1, topics: 4, topic: a}\n", "{n}"),
            ("groups:\n  - {publishers: 1, rate: 1, size: 31}\n", "32 bytes"),
            ("groups: []\nphases: {warmup: 5}\n", "unit"),
            ("groups: []\nslo: p98<1s\n", "p98"),
            ("groups: [\n", "line"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
