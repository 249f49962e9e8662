//! A client of a chat.

use std::io;
use std::net::SocketAddr;

use super::support::raw::{CLOSE, RawClient, TEXT, close_payload};

/// A connection that has heard its own join notice.
pub(crate) struct Talker {
    pub(crate) name: String,
    /// Everything heard so far, the join notice included.
    pub(crate) heard: Vec<String>,
    client: RawClient,
}

impl Talker {
    /// Joins with this query; the first message that comes must be a join notice, which tells the name.
    pub(crate) fn join(address: SocketAddr, query: &str) -> Self {
        let mut client = RawClient::connect(address, &format!("/chat{query}"));
        let notice = read_text(&mut client).expect("a newcomer hears its own join notice first");
        let name = notice.strip_prefix("Server: ").and_then(|rest| rest.strip_suffix(" has joined the chat"));
        let name = name.unwrap_or_else(|| panic!("the first message is no join notice: {notice:?}"));
        Self { name: name.to_owned(), heard: vec![notice], client }
    }

    /// Says something; what the server makes of it is heard later.
    pub(crate) fn say(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    /// Sends any frame.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        self.client.send(first, payload).unwrap();
    }

    /// The next message.
    pub(crate) fn hear(&mut self) -> String {
        let text = read_text(&mut self.client).expect("a message comes before the Close");
        self.heard.push(text.clone());
        text
    }

    /// Hears everything up to this message.
    pub(crate) fn hear_until(&mut self, last: &str) {
        while self.hear() != last {}
    }

    /// Hears the Close that must come next. Returns its code.
    pub(crate) fn hear_close(&mut self) -> u16 {
        self.client.read_frame().close_code()
    }

    /// Hears the Close that must come next, and goes. Returns its code.
    pub(crate) fn close(mut self) -> u16 {
        self.hear_close()
    }

    /// Leaves by a closing handshake.
    pub(crate) fn leave(mut self) -> Vec<String> {
        self.send(CLOSE, &close_payload(1000));
        while let Some(text) = read_text(&mut self.client) {
            self.heard.push(text);
        }
        self.heard
    }

    /// Leaves by a reset.
    pub(crate) fn reset(self) -> Vec<String> {
        self.client.reset();
        self.heard
    }
}

/// The next message; `None` for a Close.
fn read_text(client: &mut RawClient) -> Option<String> {
    let frame = client.read().and_then(|frame| frame.ok_or(io::ErrorKind::UnexpectedEof.into())).unwrap();
    match frame.first {
        TEXT => Some(String::from_utf8(frame.payload).unwrap()),
        CLOSE => None,
        _ => panic!("neither text nor Close: {frame:?}"),
    }
}
