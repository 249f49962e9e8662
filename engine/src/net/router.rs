//! Which endpoint a request's path belongs to.
//!
//! In: the path as sent; out: the endpoint and the path decoded. Literal segments win over captures.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::config::pattern::{self, Segment};
use crate::config::{EndpointConfig, Mode, SlowConsumer};
use crate::counters::Refused;
use crate::modes::{self, Refusal};
use crate::relay::home::Bounds;

/// One configured endpoint, ready to serve.
pub(crate) struct Endpoint {
    pub config: EndpointConfig,
    /// In `Config::endpoints`.
    pub index: u16,
    /// Whether its connections tell the control thread what they do.
    pub tells_control: bool,
    pub limits: proto::Limits,
    pub mode: Box<dyn modes::Mode>,
    pub bounds: Bounds,
    pub skip_slow: bool,
    segments: Vec<Segment>,
}

impl Endpoint {
    fn new(index: usize, config: &EndpointConfig) -> Option<Self> {
        Some(Self {
            index: index as u16,
            tells_control: config.mode == Mode::Gateway,
            limits: proto::Limits {
                message_bytes_max: config.message_bytes_max,
                frame_bytes_max: config.frame_bytes_max,
            },
            mode: modes::build(config),
            bounds: Bounds { window_bytes: config.publish_window_bytes, retained_bytes: config.topic_log_bytes_max },
            skip_slow: config.slow_consumer == SlowConsumer::Skip,
            segments: pattern::segments(&config.path).ok()?,
            config: config.clone(),
        })
    }

    fn captures(&self) -> usize {
        pattern::captures(&self.segments)
    }
}

/// All endpoints of a server.
pub(crate) struct Router {
    endpoints: Vec<Endpoint>,
}

impl Router {
    /// A router over these endpoints; one whose path is no pattern, which a configuration is checked for, is left out.
    pub(crate) fn new(configs: &[EndpointConfig]) -> Self {
        Self {
            endpoints: configs.iter().enumerate().filter_map(|(index, config)| Endpoint::new(index, config)).collect(),
        }
    }

    pub(crate) fn endpoint(&self, index: u16) -> &Endpoint {
        &self.endpoints[usize::from(index)]
    }

    /// The endpoint of a path and the path with percent-escapes decoded.
    ///
    /// # Errors
    /// 404 without a match or with an empty or undecodable capture; 400 if a capture is too long.
    pub(crate) fn find(&self, path: &str) -> Result<(u16, String), Refusal> {
        let missing = || Refusal::new(404, Refused::Path, "no such path");
        let rest = path.strip_prefix('/').ok_or_else(missing)?;
        let parts: Option<Vec<_>> = rest.split('/').map(decode).collect();
        let parts = parts.ok_or_else(missing)?;
        let found = self
            .endpoints
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| {
                endpoint.segments.len() == parts.len()
                    && endpoint.segments.iter().zip(&parts).all(|(segment, part)| match segment {
                        Segment::Literal(literal) => literal == part,
                        Segment::Capture(_) => !part.is_empty(),
                    })
            })
            .min_by_key(|(_, endpoint)| endpoint.captures())
            .ok_or_else(missing)?;
        let (index, endpoint) = found;
        let bytes_max = endpoint.config.topic_name_bytes_max;
        for (segment, part) in endpoint.segments.iter().zip(&parts) {
            if let Segment::Capture(name) = segment
                && part.len() > bytes_max
            {
                return Err(Refusal::malformed(format!("{name} is longer than {bytes_max} bytes")));
            }
        }
        Ok((index as u16, topic_name(&parts)))
    }
}

/// A segment with its escapes decoded; `None` if one is malformed or the result is not UTF-8.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !has_whole_escapes(segment.as_bytes()) {
        return None;
    }
    percent_decode_str(segment).decode_utf8().ok()
}

/// Whether each `%` begins an escape: two hexadecimal digits follow.
pub(crate) fn has_whole_escapes(text: &[u8]) -> bool {
    let is_escape = |rest: &[u8]| rest.get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    text.split(|byte| *byte == b'%').skip(1).all(is_escape)
}

/// The decoded path. A `/` inside a capture is kept apart from one between segments by its escape.
fn topic_name(parts: &[Cow<'_, str>]) -> String {
    let mut name = String::new();
    for part in parts {
        name.push('/');
        name.push_str(&part.replace('%', "%25").replace('/', "%2F"));
    }
    name
}
