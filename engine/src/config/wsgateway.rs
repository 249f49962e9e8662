//! What is particular to wsgateway's configuration files, which are read as they are.
//!
//! `listen_addr` is `server.host` and `server.port` in one; `max_message_size_kb` is `message_bytes_max` and
//! `frame_bytes_max` in one, of an endpoint or, at the root, of every gateway endpoint that names none of the three; an
//! endpoint without `mode` is a gateway's. A file of wsgateway's is read over the gateway preset.

use serde_yaml::Value;

use super::Config;
use super::endpoint::{EndpointConfig, Mode};
use super::setting::{Key, Setting, describe};

/// `host:port`, at the root.
pub(super) const LISTEN_ADDR: &str = "listen_addr";

/// KiB, at the root and of an endpoint.
pub(super) const MAX_MESSAGE_SIZE_KB: &str = "max_message_size_kb";

/// What [`MAX_MESSAGE_SIZE_KB`] sets.
pub(super) const SIZES: [&str; 2] = ["message_bytes_max", "frame_bytes_max"];

/// The keys at the root of wsgateway's files.
const ROOT_KEYS: [&str; 7] = [
    LISTEN_ADDR,
    MAX_MESSAGE_SIZE_KB,
    "internal_endpoint_access_whitelist",
    "connection_redis_sync",
    "stream_redis",
    "stream_amqp",
    "prometheus",
];

/// The sections that only ringrelay's files have.
const OUR_SECTIONS: [&str; 3] = ["server", "metrics", "log"];

/// Whether it is wsgateway's: endpoints without a mode; without endpoints, one of its keys and no section of ours.
pub(super) fn is_its(file: &Value) -> bool {
    let Some(map) = file.as_mapping() else { return false };
    let has_any = |keys: &[&str]| keys.iter().any(|key| map.contains_key(key));
    match map.get("endpoints") {
        None => has_any(&ROOT_KEYS) && !has_any(&OUR_SECTIONS),
        Some(endpoints) => {
            let endpoints = endpoints.as_sequence().map(Vec::as_slice).unwrap_or_default();
            let lacks_mode = |endpoint: &Value| endpoint.as_mapping().is_some_and(|it| !it.contains_key("mode"));
            !endpoints.is_empty() && endpoints.iter().all(lacks_mode)
        }
    }
}

/// Sets `server.host` and `server.port`; no host is every IPv4 interface.
pub(super) fn set_listen_addr(config: &mut Config, value: &Value) -> Result<(), String> {
    let wrong = || format!("{} is not host:port, such as 0.0.0.0:5000, :5000 or [::]:5000", describe(value));
    let (host, port) = value.as_str().and_then(|text| text.trim().rsplit_once(':')).ok_or_else(wrong)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':')).ok_or_else(wrong)?,
        None if host.contains([':', ']', '/']) => return Err(wrong()),
        None if host.is_empty() => "0.0.0.0",
        None => host,
    };
    config.server.port = Some(port)
        .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|port| port.parse().ok())
        .ok_or_else(|| format!("{}; the port is a number from 0 to 65535", wrong()))?;
    config.server.host = host.to_owned();
    Ok(())
}

/// Reads a size in KiB as bytes; 0 and nothing say nothing, as in wsgateway.
pub(super) fn size(value: &Value) -> Result<Option<usize>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let key = Key { name: MAX_MESSAGE_SIZE_KB, doc: "", range: Some((0, 1_048_576)), loose: true };
    let kib = usize::from_yaml(value, &key)?;
    Ok((kib > 0).then_some(kib << 10))
}

/// Gives an endpoint the size of both a message and a frame.
pub(super) fn set_size(endpoint: &mut EndpointConfig, bytes: usize) {
    (endpoint.message_bytes_max, endpoint.frame_bytes_max) = (bytes, bytes);
}

/// Gives the size at the root to every gateway endpoint whose entry in the file, if it has one, names none of its own.
pub(super) fn spread_size(config: &mut Config, file: &Value, bytes: usize) {
    for (index, endpoint) in config.endpoints.iter_mut().enumerate().filter(|(_, it)| it.mode == Mode::Gateway) {
        let entry = file.get("endpoints").and_then(|endpoints| endpoints.get(index));
        let own = |key: &str| entry.and_then(|entry| entry.get(key)).filter(|value| !value.is_null());
        let own_kib = own(MAX_MESSAGE_SIZE_KB).is_some_and(|value| value.as_u64() != Some(0));
        if !own_kib && SIZES.iter().all(|key| own(key).is_none()) {
            set_size(endpoint, bytes);
        }
    }
}
