//! From flags to a load.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use super::arrivals::Arrivals;
use super::{Connection, Load, Pace, Publisher, Topic};
use crate::measure::stamp::ID_LIMIT;
use crate::rng::Rng;
use crate::wire::frame;
use crate::wire::handshake::Request;
use crate::wire::tls::Tls;
use crate::wire::url::WsUrl;

/// Where all connections of a load go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: WsUrl,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Tls>,
    /// Whole lines `Name: value`.
    pub(crate) headers: Vec<String>,
    pub(crate) subprotocols: Vec<String>,
}

/// What every kind of load has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common {
    pub(crate) seed: u64,
    /// Payload with the stamp, in bytes.
    pub(crate) size: usize,
    pub(crate) is_text: bool,
    pub(crate) spread: Spread,
    /// Source addresses to spread the connections over; empty: the kernel chooses.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) connect_rate: Option<f64>,
    /// Each connect is up to so much before or after its time at that rate.
    pub(crate) connect_jitter_ns: u64,
    /// Wall-clock time of the first message, in seconds since 1970.
    pub(crate) start_at: Option<f64>,
    pub(crate) warmup_ns: u64,
    pub(crate) measure_ns: u64,
    pub(crate) drain_ns: u64,
}

/// How the flags say when messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pacing {
    /// Messages per second of all publishers together, evenly spread.
    Rate(f64),
    /// Messages in flight per publisher.
    Outstanding(u32),
}

/// How the messages of a rate are spread over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Spread {
    #[default]
    Uniform,
    Poisson,
    /// So many at once.
    Burst(u64),
}

/// `publishers` publish to `subscribers` on the one topic of the URL.
///
/// # Errors
/// A header that cannot be sent.
pub(crate) fn relay(
    target: &Target,
    common: &Common,
    subscribers: u32,
    publishers: u32,
    pacing: Pacing,
) -> Result<Load, String> {
    let mut load = empty(target, common);
    load.requests.push(Request::new(&target.url, &target.headers, &target.subprotocols)?);
    load.topics.push(Topic { request: 0, subscribers, publishers });
    load.connections.extend(std::iter::repeat_n(Connection::subscriber(0), subscribers as usize));
    for index in 0..publishers {
        load.connections.push(Connection::publisher(0, index));
        load.publishers.push(publisher(common, 0, index, pace(common, pacing, index, publishers), None));
    }
    Ok(load)
}

/// Like [`relay`], on several topics: `{topic}` in the URL becomes `room-0`, `room-1` and so on, and the connections are
/// dealt round. Without it there is one topic.
///
/// # Errors
/// A header that cannot be sent, or several topics without a place in the URL.
pub(crate) fn rooms(
    target: &Target,
    common: &Common,
    topics: u32,
    subscribers: u32,
    publishers: u32,
    rate: f64,
) -> Result<Load, String> {
    if topics > 1 && !target.url.resource.contains("{topic}") {
        return Err(format!("{topics} topics need {{topic}} in the URL's path {}", target.url.resource));
    }
    let mut load = empty(target, common);
    for topic in 0..topics {
        let resource = target.url.resource.replace("{topic}", &format!("room-{topic}"));
        let url = WsUrl { resource, ..target.url.clone() };
        load.requests.push(Request::new(&url, &target.headers, &target.subprotocols)?);
        load.topics.push(Topic { request: topic, subscribers: 0, publishers: 0 });
    }
    for index in 0..subscribers {
        load.topics[(index % topics) as usize].subscribers += 1;
        load.connections.push(Connection::subscriber(index % topics));
    }
    for index in 0..publishers {
        let topic = &mut load.topics[(index % topics) as usize];
        let pace = pace(common, Pacing::Rate(rate), index, publishers);
        load.publishers.push(publisher(common, index % topics, topic.publishers, pace, None));
        topic.publishers += 1;
        load.connections.push(Connection::publisher(index % topics, index));
    }
    Ok(load)
}

/// Each of `connections` hears what it says itself, and nothing else. `{n}` in the URL becomes its number.
///
/// # Errors
/// A header that cannot be sent.
pub(crate) fn echo(
    target: &Target,
    common: &Common,
    connections: u32,
    pacing: Pacing,
    messages_max: Option<u32>,
) -> Result<Load, String> {
    let mut load = empty(target, common);
    let is_template = target.url.resource.contains("{n}");
    for index in 0..connections {
        if index == 0 || is_template {
            let resource = target.url.resource.replace("{n}", &index.to_string());
            let url = WsUrl { resource, ..target.url.clone() };
            load.requests.push(Request::new(&url, &target.headers, &target.subprotocols)?);
        }
        load.topics.push(Topic { request: load.requests.len() as u32 - 1, subscribers: 1, publishers: 1 });
        load.connections.push(Connection { is_subscriber: true, ..Connection::publisher(index, index) });
        let pace = pace(common, pacing, index, connections);
        load.publishers.push(publisher(common, index, 0, pace, messages_max));
    }
    Ok(load)
}

pub(super) fn empty(target: &Target, common: &Common) -> Load {
    Load {
        run: run_id(),
        seed: common.seed,
        address: target.address,
        tls: target.tls.clone(),
        requests: Vec::new(),
        topics: Vec::new(),
        publishers: Vec::new(),
        connections: Vec::new(),
        sources: common.sources.clone(),
        connect_rate: common.connect_rate,
        connect_jitter_ns: common.connect_jitter_ns,
        events: Vec::new(),
        start_at: common.start_at,
        warmup_ns: common.warmup_ns,
        measure_ns: common.measure_ns,
        drain_ns: common.drain_ns,
    }
}

/// Unlike everything else it does not come from the seed: two processes with the same one may share a topic.
fn run_id() -> u32 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    Rng::new(wall, u64::from(std::process::id())).next_u64() as u32 & (ID_LIMIT - 1)
}

fn publisher(common: &Common, topic: u32, index_in_topic: u32, pace: Pace, messages_max: Option<u32>) -> Publisher {
    let opcode = if common.is_text { frame::TEXT } else { frame::BINARY };
    Publisher { topic, index_in_topic, size: common.size, opcode, pace, messages_max }
}

/// Publishers of a rate are staggered, so that their sum is even too.
pub(super) fn pace(common: &Common, pacing: Pacing, index: u32, publishers: u32) -> Pace {
    let rate = match pacing {
        Pacing::Rate(rate) => rate,
        Pacing::Outstanding(window) => return Pace::Outstanding(window),
    };
    Pace::Scheduled(arrivals(common, rate, index, publishers))
}

/// One publisher's share of `rate` messages per second; 0: none.
pub(super) fn arrivals(common: &Common, rate: f64, index: u32, publishers: u32) -> Arrivals {
    if rate == 0.0 {
        return Arrivals::never();
    }
    let (offset_ns, interval_ns) = (1e9 / rate * f64::from(index), 1e9 / rate * f64::from(publishers));
    match common.spread {
        Spread::Uniform => Arrivals::uniform(offset_ns, interval_ns),
        Spread::Poisson => Arrivals::poisson(interval_ns, Rng::new(common.seed, (1 << 32) + u64::from(index))),
        Spread::Burst(count) => Arrivals::burst(count, offset_ns * count as f64, interval_ns * count as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        let url = WsUrl::parse(url).unwrap();
        Target {
            address: "127.0.0.1:1".parse().unwrap(),
            url,
            tls: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
        }
    }

    fn common() -> Common {
        Common { seed: 1, size: 64, ..Common::default() }
    }

    #[test]
    fn staggered_publishers_together_keep_the_rate_evenly() {
        let load = relay(&target("ws://h/"), &common(), 2, 4, Pacing::Rate(1000.0)).unwrap();
        let mut dues = Vec::new();
        for publisher in &load.publishers {
            let Pace::Scheduled(mut arrivals) = publisher.pace.clone() else { panic!("a rate is a schedule") };
            for _ in 0..5 {
                dues.push(arrivals.due_ns());
                arrivals.advance();
            }
        }
        dues.sort_unstable();
        assert_eq!(dues, (0..20).map(|k| k * 1_000_000).collect::<Vec<_>>());
        assert_eq!((load.connections.len(), load.topics[0].subscribers), (6, 2));
    }

    #[test]
    fn rooms_are_dealt_round_and_need_a_place_in_the_url() {
        let load = rooms(&target("ws://h/rooms/{topic}"), &common(), 3, 7, 4, 100.0).unwrap();
        let topics: Vec<_> = load.topics.iter().map(|topic| (topic.subscribers, topic.publishers)).collect();
        assert_eq!((topics, load.connections.len()), (vec![(3, 2), (2, 1), (2, 1)], 11));
        assert_eq!((load.publishers[3].topic, load.publishers[3].index_in_topic), (0, 1));
        assert!(rooms(&target("ws://h/"), &common(), 2, 1, 1, 1.0).unwrap_err().contains("{topic}"));
        assert!(rooms(&target("ws://h/"), &common(), 1, 1, 1, 1.0).is_ok());
    }

    #[test]
    fn a_template_gives_every_connection_its_own_request() {
        let load = echo(&target("ws://h/rooms/{n}"), &common(), 3, Pacing::Outstanding(1), None).unwrap();
        let mut request = Vec::new();
        load.requests[load.topics[2].request as usize].append(&mut request, [0; 16]);
        assert!(request.starts_with(b"GET /rooms/2 HTTP/1.1\r\n"));
        let shared = echo(&target("ws://h/echo"), &common(), 3, Pacing::Outstanding(1), None).unwrap();
        assert_eq!((load.requests.len(), shared.requests.len()), (3, 1));
    }
}
