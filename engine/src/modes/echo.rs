//! Echo: every message comes back with its opcode. Options for testers stand in the query: `delay_ms`, `close_after`
//! with `code`, `headers=1`.

use proto::handshake::Head;
use proto::{CloseCode, Message, Opcode};

use super::{Actions, Admission, Mode, Refusal, Request};
use crate::counters::Ended;

/// Upper bound of `delay_ms`.
const DELAY_MS_MAX: u64 = 60_000;

pub(super) struct Echo;

/// What a tester asked for.
struct Options {
    delay_ms: u64,
    /// Echoed messages left until the close.
    close_after: Option<u64>,
    code: CloseCode,
    /// The request's headers as JSON, until the connection opens.
    headers: Option<String>,
}

impl Mode for Echo {
    fn admit(&self, request: &Request<'_>) -> Result<Admission, Refusal> {
        let options = parse(request.head)?;
        Ok(Admission { state: options.map(|options| Box::new(options) as _), ..Admission::default() })
    }

    fn opened(&self, actions: &mut Actions<'_>) {
        let headers = actions.state::<Options>().and_then(|options| options.headers.take());
        if let Some(headers) = headers {
            actions.reply(Opcode::Text, proto::Payload::Slice(headers.as_bytes()));
        }
    }

    fn message(&self, actions: &mut Actions<'_>, message: Message<'_>) {
        let delay_ms = actions.state::<Options>().map_or(0, |options| options.delay_ms);
        if delay_ms == 0 {
            actions.reply(message.opcode, message.payload);
            self.replied(actions);
        } else {
            actions.reply_later(delay_ms, message.opcode, &message.payload);
        }
    }

    fn replied(&self, actions: &mut Actions<'_>) {
        let Some(options) = actions.state::<Options>() else { return };
        let Some(left) = &mut options.close_after else { return };
        *left -= 1;
        if *left == 0 {
            let code = options.code;
            actions.close(code, "", Ended::Policy);
        }
    }
}

/// The options of a request; `None` if it has none.
fn parse(head: &Head<'_>) -> Result<Option<Options>, Refusal> {
    let mut options = Options { delay_ms: 0, close_after: None, code: CloseCode::NORMAL, headers: None };
    let mut any = false;
    for (key, value) in form_urlencoded::parse(head.query().unwrap_or("").as_bytes()) {
        match key.as_ref() {
            "delay_ms" => options.delay_ms = number("delay_ms", &value, 0, DELAY_MS_MAX)?,
            "close_after" => options.close_after = Some(number("close_after", &value, 1, u64::MAX)?),
            "code" => options.code = code(&value)?,
            "headers" => match value.as_ref() {
                "1" => options.headers = Some(headers_json(head)),
                "0" => {}
                other => return Err(Refusal::malformed(format!("headers is {other:?}, not 0 or 1"))),
            },
            _ => continue,
        }
        any = true;
    }
    Ok(any.then_some(options))
}

fn number(name: &str, value: &str, min: u64, max: u64) -> Result<u64, Refusal> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = digits.then(|| value.parse().ok()).flatten();
    parsed.filter(|number| (min..=max).contains(number)).ok_or_else(|| {
        let range = if max == u64::MAX { format!("a number from {min}") } else { format!("a number {min}..={max}") };
        Refusal::malformed(format!("{name} is {value:?}, not {range}"))
    })
}

fn code(value: &str) -> Result<CloseCode, Refusal> {
    let code = CloseCode(number("code", value, 1000, 4999)? as u16);
    if code.is_valid_on_wire() {
        Ok(code)
    } else {
        Err(Refusal::malformed(format!("code {value} may not be sent in a Close frame (RFC 6455 section 7.4)")))
    }
}

/// The request's headers as a JSON object, names in lower case; a repeated name joins its values with a comma.
fn headers_json(head: &Head<'_>) -> String {
    let mut object = serde_json::Map::new();
    for (name, value) in head.headers() {
        let value = String::from_utf8_lossy(value);
        let entry = object.entry(name.to_ascii_lowercase()).or_insert_with(|| serde_json::Value::String(String::new()));
        if let serde_json::Value::String(joined) = entry {
            if !joined.is_empty() {
                joined.push_str(", ");
            }
            joined.push_str(&value);
        }
    }
    serde_json::Value::Object(object).to_string()
}
