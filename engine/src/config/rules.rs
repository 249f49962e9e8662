//! What must fit together, once every source has been applied.

use super::document::Step;
use super::pattern::{same_shape, segments};
use super::{Config, EndpointConfig};

/// A rule broken: at which key, and why.
pub(super) type Broken = (Vec<Step>, String);

/// Every rule that the configuration breaks.
pub(super) fn check(config: &Config) -> Vec<Broken> {
    let mut broken = Vec::new();
    ports(config, &mut broken);
    paths(config, &mut broken);
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        let (ping, pong) = (endpoint.ping_interval_ms, endpoint.pong_wait_ms);
        if pong != 0 && ping >= pong {
            // Told at the key that was changed, which is the one whose line helps.
            broken.push(if pong != EndpointConfig::default().pong_wait_ms {
                let reason = format!("{pong} must be more than ping_interval_ms, which is {ping}, or 0 for never");
                (at(index, "pong_wait_ms"), reason)
            } else {
                let reason = format!("{ping} must be less than pong_wait_ms, which is {pong}, or 0 for none");
                (at(index, "ping_interval_ms"), reason)
            });
        }
    }
    broken
}

fn ports(config: &Config, broken: &mut Vec<Broken>) {
    let (server, metrics) = (&config.server, &config.metrics);
    let wildcard = |host: &str| matches!(host, "0.0.0.0" | "::" | "[::]");
    let same_host = server.host == metrics.host || wildcard(&server.host) || wildcard(&metrics.host);
    if metrics.enabled && metrics.port != 0 && metrics.port == server.port && same_host {
        let reason = format!("{} is server.port too; the admin port needs its own", metrics.port);
        broken.push((vec![Step::Key("metrics".to_owned()), Step::Key("port".to_owned())], reason));
    }
}

fn paths(config: &Config, broken: &mut Vec<Broken>) {
    let shapes: Vec<_> = config.endpoints.iter().map(|endpoint| segments(&endpoint.path).unwrap_or_default()).collect();
    for (index, shape) in shapes.iter().enumerate() {
        if let Some(first) = shapes[..index].iter().position(|earlier| same_shape(earlier, shape)) {
            let path = &config.endpoints[index].path;
            let reason = format!("{path} is the path of endpoints[{first}] already ({})", config.endpoints[first].path);
            broken.push((at(index, "path"), reason));
        }
    }
}

fn at(index: usize, key: &str) -> Vec<Step> {
    vec![Step::Key("endpoints".to_owned()), Step::Index(index), Step::Key(key.to_owned())]
}
