//! The opening handshake, RFC 6455 section 4: the client's side, and as much of a server's as the null peers need.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::url::WsUrl;

/// A response head longer than this is refused.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What the server answered to an upgrade request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The head is not complete yet.
    Partial,
    /// Upgraded; so many bytes of head, frames follow.
    Upgraded { head_bytes: usize },
    /// No upgrade, and why.
    Refused(String),
}

/// The request without its key: build it once for all connections of a URL.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    before_key: String,
    after_key: String,
    /// Subprotocols asked for, in order of preference.
    subprotocols: Vec<String>,
}

impl Request {
    /// `headers` are whole lines `Name: value` without line ends.
    ///
    /// # Errors
    /// A header that is no `Name: value`, or one that the handshake itself sets.
    pub(crate) fn new(url: &WsUrl, headers: &[String], subprotocols: &[String]) -> Result<Self, String> {
        let before_key = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
            url.resource,
            url.authority()
        );
        let mut after_key = String::from("\r\n");
        if !subprotocols.is_empty() {
            after_key += &format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols.join(", "));
        }
        for header in headers {
            let (name, _) = header.split_once(':').ok_or_else(|| format!("header {header:?} is no \"Name: value\""))?;
            let is_token =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;\\\"/[]?={}".contains(&b));
            if !is_token || header.contains(['\r', '\n', '\0']) {
                return Err(format!("header {header:?} has a character that HTTP does not allow there"));
            }
            if name.to_ascii_lowercase().starts_with("sec-websocket-") || name.eq_ignore_ascii_case("upgrade") {
                return Err(format!("header {name} belongs to the handshake itself"));
            }
            after_key += &format!("{header}\r\n");
        }
        after_key += "\r\n";
        Ok(Self { before_key, after_key, subprotocols: subprotocols.to_vec() })
    }

    /// Appends the request with the key for these 16 random bytes and returns the accept value to expect.
    pub(crate) fn append(&self, out: &mut Vec<u8>, nonce: [u8; 16]) -> String {
        let key = STANDARD.encode(nonce);
        out.extend_from_slice(self.before_key.as_bytes());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(self.after_key.as_bytes());
        accept_value(&key)
    }

    /// Judges the response so far against the accept value that [`Self::append`] returned.
    pub(crate) fn judge(&self, response: &[u8], accept: &str) -> Answer {
        let Some(head_bytes) = head_end(response) else {
            if response.len() > HEAD_BYTES_MAX {
                return Answer::Refused("the response's head does not end".into());
            }
            return Answer::Partial;
        };
        let Ok(head) = std::str::from_utf8(&response[..head_bytes]) else {
            return Answer::Refused("the response is not HTTP".into());
        };
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let Some(status) = status_line.strip_prefix("HTTP/1.1 ") else {
            return Answer::Refused(format!("the response is not HTTP/1.1: {:?}", truncated(status_line)));
        };
        if !status.starts_with("101") {
            let body = String::from_utf8_lossy(&response[head_bytes..]);
            return Answer::Refused(match truncated(&body).trim() {
                "" => format!("the server answered {}", truncated(status)),
                body => format!("the server answered {}: {body:?}", truncated(status)),
            });
        }
        match self.judge_fields(head, accept) {
            Ok(()) => Answer::Upgraded { head_bytes },
            Err(reason) => Answer::Refused(reason),
        }
    }

    fn judge_fields(&self, head: &str, accept: &str) -> Result<(), String> {
        let has_token = |name: &str, token: &str| {
            fields(head, name).any(|value| value.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
        };
        if !has_token("upgrade", "websocket") || !has_token("connection", "upgrade") {
            return Err("the 101 response lacks Upgrade: websocket or Connection: Upgrade".into());
        }
        if fields(head, "sec-websocket-accept").next() != Some(accept) {
            return Err("the 101 response's Sec-WebSocket-Accept is wrong".into());
        }
        if let Some(extension) = fields(head, "sec-websocket-extensions").next() {
            return Err(format!("the server chose an extension that was not asked for: {:?}", truncated(extension)));
        }
        match fields(head, "sec-websocket-protocol").next() {
            Some(chosen) if !self.subprotocols.iter().any(|asked| asked == chosen) => {
                Err(format!("the server chose a subprotocol that was not asked for: {:?}", truncated(chosen)))
            }
            None if !self.subprotocols.is_empty() => Err("the server chose none of the subprotocols".into()),
            _ => Ok(()),
        }
    }
}

/// A null peer's answer to a request: (response, path, bytes of head); `None`: not complete, or no upgrade.
pub(crate) fn accept(request: &[u8]) -> Option<(String, String, usize)> {
    let head_bytes = head_end(request)?;
    let head = std::str::from_utf8(&request[..head_bytes]).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let accept = accept_value(fields(head, "sec-websocket-key").next()?);
    let protocol = fields(head, "sec-websocket-protocol").next().and_then(|list| list.split(',').next());
    let protocol = protocol.map(|p| format!("Sec-WebSocket-Protocol: {}\r\n", p.trim())).unwrap_or_default();
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    Some((response, path, head_bytes))
}

/// RFC 6455 section 4.2.2, step 5.4.
fn accept_value(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Values of the header fields called `name` (lower case), trimmed.
fn fields<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    head.split("\r\n").skip(1).filter_map(move |line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn truncated(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[&str], subprotocols: &[&str]) -> Result<Request, String> {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Request::new(&WsUrl::parse("ws://h:81/p").unwrap(), &strings(headers), &strings(subprotocols))
    }

    #[test]
    fn the_accept_value_is_the_one_of_rfc_6455_section_1_3() {
        assert_eq!(accept_value("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn client_and_null_peer_agree() {
        let request = request(&["X-Test: 1"], &["chat"]).unwrap();
        let mut bytes = Vec::new();
        let expected = request.append(&mut bytes, [7; 16]);
        let (response, path, head_bytes) = accept(&bytes).unwrap();
        assert_eq!((path.as_str(), head_bytes), ("/p", bytes.len()));
        assert!(String::from_utf8_lossy(&bytes).contains("Host: h:81\r\n"));
        let head_bytes = response.len();
        assert_eq!(request.judge(response.as_bytes(), &expected), Answer::Upgraded { head_bytes });
        for cut in 0..head_bytes {
            assert_eq!(request.judge(&response.as_bytes()[..cut], &expected), Answer::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn every_wrong_answer_is_refused_with_its_reason() {
        let request = request(&[], &[]).unwrap();
        let good = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: A\r\n\r\n";
        assert_eq!(request.judge(good.as_bytes(), "A"), Answer::Upgraded { head_bytes: good.len() });
        for (response, reason) in [
            ("HTTP/1.1 503 Full\r\n\r\nno room".to_owned(), "503 Full: \"no room\""),
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "not HTTP/1.1"),
            (good.replace("Upgrade: websocket", "Upgrade: h2c"), "lacks"),
            (good.replace("Accept: A", "Accept: B"), "Accept is wrong"),
            (good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: z\r\n\r\n"), "subprotocol"),
            (good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"), "extension"),
        ] {
            match request.judge(response.as_bytes(), "A") {
                Answer::Refused(said) => assert!(said.contains(reason), "{said}"),
                other => panic!("{response}: {other:?}"),
            }
        }
    }

    #[test]
    fn headers_that_would_break_the_request_are_errors() {
        assert!(request(&["no colon"], &[]).unwrap_err().contains("Name: value"));
        assert!(request(&["A: b\r\nC: d"], &[]).unwrap_err().contains("not allow"));
        assert!(request(&["Sec-WebSocket-Key: x"], &[]).unwrap_err().contains("belongs"));
    }
}
