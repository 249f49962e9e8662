//! What an application has heard of the connections, and what must hold of it.

use std::collections::{BTreeMap, HashSet};

/// Events that one batch holds at most, hence those that may come twice after a break.
pub(crate) const BATCH_EVENTS_MAX: usize = 512;

/// One event as an application gets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    pub(crate) connection: String,
    pub(crate) action: String,
    pub(crate) tags: String,
    /// `text` or `binary`, of messages.
    pub(crate) kind: Option<String>,
    pub(crate) message: Option<Vec<u8>>,
    pub(crate) encoding: Option<String>,
}

impl Event {
    /// From names and values, as they are in a stream's entry or in JSON.
    pub(crate) fn of_fields<'a>(fields: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Self {
        let mut event = Self::default();
        for (name, value) in fields {
            let text = || String::from_utf8(value.clone()).unwrap();
            match name {
                "connection" => event.connection = text(),
                "action" => event.action = text(),
                "tags" => event.tags = text(),
                "type" => event.kind = Some(text()),
                "message" => event.message = Some(value),
                "encoding" => event.encoding = Some(text()),
                other => panic!("a field {other}"),
            }
        }
        event
    }

    /// From a JSON object of strings.
    pub(crate) fn of_json(json: &[u8]) -> Self {
        let fields: BTreeMap<String, String> = serde_json::from_slice(json).unwrap();
        Self::of_fields(fields.iter().map(|(name, value)| (name.as_str(), value.clone().into_bytes())))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.message.as_deref().unwrap_or_default()).unwrap()
    }
}

/// What was heard, in the order of arrival.
#[derive(Default)]
pub(crate) struct Heard {
    /// Each event once, in the order of first arrival.
    first: Vec<Event>,
    seen: HashSet<(String, String, Vec<u8>)>,
    pub(crate) duplicates: usize,
    /// The same event came again after others that were new.
    pub(crate) replays: Vec<usize>,
}

impl Heard {
    pub(crate) fn of(events: Vec<Event>) -> Self {
        let mut heard = Self::default();
        for event in events {
            let key = (event.connection.clone(), event.action.clone(), event.message.clone().unwrap_or_default());
            if heard.seen.insert(key) {
                heard.first.push(event);
                continue;
            }
            heard.duplicates += 1;
            let place = heard.first.iter().rposition(|first| *first == event).expect("seen before");
            heard.replays.push(heard.first.len() - place);
        }
        heard
    }

    /// How many different events were heard.
    pub(crate) fn count(&self) -> u64 {
        self.first.len() as u64
    }

    /// Each connection's events are in order: the open, the messages by number, the close. `complete`: none is missing.
    /// A message is the number of its client and its own number.
    pub(crate) fn check_order(&self, clients: usize, complete: bool) {
        let mut connections: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in &self.first {
            connections.entry(&event.connection).or_default().push(event);
        }
        for (id, events) in &connections {
            let at = |action: &str| events.iter().position(|event| event.action == action);
            assert!(at("open").is_none_or(|place| place == 0), "{id}: opened late");
            assert!(at("close").is_none_or(|place| place == events.len() - 1), "{id}: closed early");
            let numbers = events.iter().filter(|event| event.action == "message").map(|event| {
                let (client, number) = event.text().split_once(' ').unwrap();
                (client.parse::<usize>().unwrap(), number.parse::<usize>().unwrap())
            });
            let numbers: Vec<_> = numbers.collect();
            assert!(numbers.windows(2).all(|pair| pair[0].0 == pair[1].0), "{id} is several clients: {numbers:?}");
            assert!(numbers.windows(2).all(|pair| pair[0].1 < pair[1].1), "{id}: out of order: {numbers:?}");
            if complete {
                assert!(at("open").is_some() && at("close").is_some(), "{id}: {events:?}");
                assert!(numbers.iter().enumerate().all(|(index, (_, number))| index == *number), "{id}: {numbers:?}");
            }
        }
        assert_eq!(connections.len(), clients);
    }

    /// Takes out the messages that came behind a later one of their connection, and says how many they were.
    pub(crate) fn take_late(&mut self) -> usize {
        let mut latest: BTreeMap<String, usize> = BTreeMap::new();
        let before = self.first.len();
        self.first.retain(|event| {
            let number = match event.action.as_str() {
                "message" => event.text().split_once(' ').unwrap().1.parse().unwrap(),
                _ => return true,
            };
            let latest = latest.entry(event.connection.clone()).or_insert(number);
            *latest = number.max(*latest);
            *latest == number
        });
        before - self.first.len()
    }

    /// What came twice was in doubt at one of so many breaks: at most a batch each.
    pub(crate) fn check_duplicates(&self, breaks: usize) {
        assert!(self.duplicates <= breaks * BATCH_EVENTS_MAX, "{} duplicates", self.duplicates);
        let far = self.replays.iter().filter(|distance| **distance > BATCH_EVENTS_MAX).count();
        assert_eq!(far, 0, "events came again after more others than a batch holds: {:?}", self.replays);
    }
}
