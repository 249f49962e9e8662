//! Chat: every text message goes to everybody with its author's name in front, and everybody hears who comes and goes.
//!
//! The name is asked for in the query (`username`), the client's address stands in for it; [`crate::relay::members`]
//! makes it unique. A message that is too long, or one too many in a second, is dropped and the connection stays.

use std::collections::VecDeque;

use percent_encoding::percent_decode_str;
use proto::{CloseCode, Message, Opcode, Payload};

use super::{Actions, Admission, Members, Membership, Mode, Refusal, Request};
use crate::config::EndpointConfig;
use crate::counters::{Dropped, Ended};
use crate::net::router::has_whole_escapes;

/// The window of `messages_per_second_max`, in µs.
const SECOND_US: u64 = 1_000_000;

/// Who writes the notices; nobody else has this name, in whatever case.
const SERVER: &str = "Server";

pub(super) struct Chat {
    username_chars_max: usize,
    message_chars_max: usize,
    messages_per_second_max: usize,
}

/// What a connection is to a chat.
#[derive(Default)]
struct Author {
    /// `NAME: `
    prefix: String,
    /// When its messages of the last second were taken, in µs.
    taken_us: VecDeque<u64>,
}

impl Chat {
    pub(super) fn new(config: &EndpointConfig) -> Self {
        Self {
            username_chars_max: config.username_chars_max,
            message_chars_max: config.message_chars_max,
            messages_per_second_max: config.messages_per_second_max as usize,
        }
    }

    /// Why the text is not taken, if it is not.
    fn refuse(&self, author: &mut Author, text: &[u8], now_us: u64) -> Option<(Dropped, String)> {
        let (chars_max, messages_max) = (self.message_chars_max, self.messages_per_second_max);
        // Every byte of UTF-8 but those that continue a character begins one.
        let chars = text.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        if chars_max > 0 && chars > chars_max {
            return Some((Dropped::TooLong, format!("{chars} characters, allowed are {chars_max}")));
        }
        author.taken_us.retain(|taken_us| now_us - taken_us < SECOND_US);
        if messages_max > 0 && author.taken_us.len() >= messages_max {
            return Some((Dropped::RateLimited, format!("more than {messages_max} in a second")));
        }
        if messages_max > 0 {
            author.taken_us.push_back(now_us);
        }
        None
    }
}

impl Mode for Chat {
    fn admit(&self, request: &Request<'_>) -> Result<Admission, Refusal> {
        let name = username(request.head.query().unwrap_or(""))?;
        let (chars, allowed) = (name.chars().count(), self.username_chars_max);
        if chars > allowed {
            return Err(Refusal::malformed(format!("username has {chars} characters, allowed are {allowed}")));
        }
        if name.contains(char::is_control) {
            return Err(Refusal::malformed("username has control characters"));
        }
        let wanted = if name.is_empty() { request.peer.ip().to_string() } else { name };
        Ok(Admission {
            topic: Some(request.path.to_owned()),
            member: Some(wanted.into()),
            state: Some(Box::new(Author::default())),
        })
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }

    fn named(&self, actions: &mut Actions<'_>, name: &str) {
        if let Some(author) = actions.state::<Author>() {
            author.prefix = format!("{name}: ");
        }
    }

    fn message(&self, actions: &mut Actions<'_>, message: Message<'_>) {
        if message.opcode != Opcode::Text {
            return actions.close(CloseCode::UNSUPPORTED, "a chat takes text only", Ended::Protocol);
        }
        let now_us = actions.now_us();
        let author = actions.state::<Author>().expect("every connection of a chat is an author");
        match self.refuse(author, &message.payload, now_us) {
            Some((reason, why)) => actions.drop_message(reason, || why),
            None => {
                let line = [author.prefix.as_bytes(), &message.payload].concat();
                actions.publish(Opcode::Text, Payload::Slice(&line));
            }
        }
    }
}

impl Members for Chat {
    fn is_reserved(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(SERVER)
    }

    fn notice(&self, name: &str, change: Membership) -> String {
        match change {
            Membership::Joined => format!("{SERVER}: {name} has joined the chat"),
            Membership::Left => format!("{SERVER}: {name} has left the chat"),
        }
    }
}

/// The first `username` of a query, decoded; empty if there is none.
fn username(query: &str) -> Result<String, Refusal> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let Some((_, value)) = pairs.find(|(key, _)| *key == "username") else { return Ok(String::new()) };
    if !has_whole_escapes(value.as_bytes()) {
        return Err(Refusal::malformed("username has a malformed escape"));
    }
    let value = value.replace('+', " ");
    let name = percent_decode_str(&value).decode_utf8().map_err(|_| Refusal::malformed("username is not UTF-8"))?;
    Ok(name.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Mode as Kind;

    fn chat() -> Chat {
        Chat::new(&EndpointConfig::new("/ws", Kind::Chat))
    }

    fn outcome(author: &mut Author, text: &str, now_us: u64) -> Option<Dropped> {
        chat().refuse(author, text.as_bytes(), now_us).map(|(reason, _)| reason)
    }

    #[test]
    fn length_is_counted_in_characters_and_a_long_message_costs_no_place_in_the_window() {
        let mut author = Author::default();
        assert_eq!(outcome(&mut author, &"é🦀".repeat(250), 0), None);
        (0..9).for_each(|_| assert_eq!(outcome(&mut author, &"x".repeat(501), 0), Some(Dropped::TooLong)));
        (0..4).for_each(|_| assert_eq!(outcome(&mut author, "", 0), None));
        assert_eq!(outcome(&mut author, "", SECOND_US - 1), Some(Dropped::RateLimited));
        assert_eq!(outcome(&mut author, "", SECOND_US), None);
    }

    #[test]
    fn a_name_is_the_first_of_the_query_decoded() {
        for (query, name) in [
            ("", ""),
            ("username", ""),
            ("username=", ""),
            ("user=x&usernames=y", ""),
            ("a=b&username=ada&username=ben", "ada"),
            ("username=a+b%2Bc%20d", "a b+c d"),
            ("username=%C3%A9=%26", "é=&"),
        ] {
            assert_eq!(username(query).unwrap(), name, "{query}");
        }
        for query in ["username=%C3", "username=%ff", "username=%", "username=%4", "username=%zz", "username=a%é"] {
            assert_eq!(username(query).unwrap_err().status, 400, "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_second_holds_more_messages_than_allowed_and_none_is_dropped_that_fits(
            gaps in prop::collection::vec(0_u64..600_000, 1..200),
        ) {
            let (mut author, mut now_us, mut taken) = (Author::default(), 0, Vec::new());
            for gap in gaps {
                now_us += gap;
                let in_window = taken.iter().filter(|at| now_us - *at < SECOND_US).count();
                let fits = outcome(&mut author, "x", now_us).is_none();
                prop_assert_eq!(fits, in_window < 5);
                taken.extend(fits.then_some(now_us));
            }
        }
    }
}
