//! Limits that span shards: connections in all and per address, the accept rate, topics.
//!
//! The one named exception to "no locks": asked at accept, at close and at the first subscription of a topic, never for
//! a message; the lock exists only for limits that are switched on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::config::ServerConfig;
use crate::counters::Refused;

#[expect(clippy::disallowed_types, reason = "the admission table is the named exception")]
type Mutex<T> = std::sync::Mutex<T>;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct AdmissionTable {
    connections_max: u64,
    per_ip_max: u64,
    rate_max: u64,
    connections: AtomicU64,
    per_ip: Mutex<HashMap<IpAddr, u64>>,
    bucket: Mutex<Bucket>,
    /// Live topics by endpoint.
    topics: Box<[AtomicU64]>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl AdmissionTable {
    pub(crate) fn new(config: &ServerConfig, endpoints: usize) -> Self {
        Self {
            connections_max: config.connections_max,
            per_ip_max: config.connections_per_ip_max,
            rate_max: config.accepts_per_second_max,
            connections: AtomicU64::new(0),
            per_ip: Mutex::default(),
            bucket: Mutex::new(Bucket { tokens: config.accepts_per_second_max as f64, filled: Instant::now() }),
            topics: (0..endpoints).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Asks for a connection from `ip`. What was granted must be given back with [`AdmissionTable::leave`].
    ///
    /// # Errors
    /// Which limit is reached.
    pub(crate) fn enter(&self, ip: IpAddr) -> Result<(), Refused> {
        if self.rate_max > 0 && !self.take_token() {
            return Err(Refused::AcceptRate);
        }
        let count = self.connections.fetch_add(1, Relaxed);
        if self.connections_max > 0 && count >= self.connections_max {
            self.connections.fetch_sub(1, Relaxed);
            return Err(Refused::Full);
        }
        if self.per_ip_max > 0 {
            let mut table = self.per_ip.lock().expect("no holder of the admission lock panics");
            let of_ip = table.entry(ip).or_insert(0);
            if *of_ip >= self.per_ip_max {
                self.connections.fetch_sub(1, Relaxed);
                return Err(Refused::PerIp);
            }
            *of_ip += 1;
        }
        Ok(())
    }

    pub(crate) fn leave(&self, ip: IpAddr) {
        self.connections.fetch_sub(1, Relaxed);
        if self.per_ip_max > 0 {
            let mut table = self.per_ip.lock().expect("no holder of the admission lock panics");
            if let Some(of_ip) = table.get_mut(&ip) {
                *of_ip -= 1;
                if *of_ip == 0 {
                    table.remove(&ip);
                }
            }
        }
    }

    /// A token bucket that holds one second's worth.
    fn take_token(&self) -> bool {
        let mut bucket = self.bucket.lock().expect("no holder of the admission lock panics");
        let now = Instant::now();
        let rate = self.rate_max as f64;
        bucket.tokens = (bucket.tokens + now.duration_since(bucket.filled).as_secs_f64() * rate).min(rate);
        bucket.filled = now;
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        granted
    }

    /// Asks for one more topic of an endpoint.
    pub(crate) fn add_topic(&self, endpoint: u16, topics_max: u64) -> bool {
        let topics = &self.topics[usize::from(endpoint)];
        if topics.fetch_add(1, Relaxed) >= topics_max {
            topics.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }

    pub(crate) fn remove_topic(&self, endpoint: u16) {
        self.topics[usize::from(endpoint)].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(connections: u64, per_ip: u64) -> AdmissionTable {
        let config =
            ServerConfig { connections_max: connections, connections_per_ip_max: per_ip, ..ServerConfig::default() };
        AdmissionTable::new(&config, 1)
    }

    #[test]
    fn a_refused_connection_takes_no_place() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let table = table(3, 2);
        assert_eq!(table.enter(a), Ok(()));
        assert_eq!(table.enter(a), Ok(()));
        assert_eq!(table.enter(a), Err(Refused::PerIp));
        assert_eq!(table.enter(b), Ok(()));
        assert_eq!(table.enter(b), Err(Refused::Full));
        table.leave(a);
        assert_eq!(table.enter(a), Ok(()));
        assert_eq!(table.connections.load(Relaxed), 3);
    }
}
