//! A server that is not ours, for one client at a time: tungstenite's end of a connection, which shows every frame.

use std::net::{SocketAddr, TcpListener, TcpStream};

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::support::PATIENCE;

/// Its listener.
pub(crate) struct Host(TcpListener);

/// One client's connection.
pub(crate) struct Guest(pub(crate) WebSocket<TcpStream>);

impl Host {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address())
    }

    /// The next connection, before any handshake.
    pub(crate) fn accept_stream(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The next client.
    pub(crate) fn accept(&self) -> Guest {
        Guest(tungstenite::accept(self.accept_stream()).unwrap())
    }
}

impl Guest {
    /// What the client says next; `None` for its Close, which must have code 1000 and is answered.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return Some(text.to_string()),
                Message::Close(frame) => {
                    assert_eq!(frame.map(|frame| frame.code), Some(CloseCode::Normal));
                    // It says that the connection is closed, which is what was wanted.
                    _ = self.0.flush();
                    return None;
                }
                other => assert!(matches!(other, Message::Ping(_) | Message::Pong(_)), "{other:?}"),
            }
        }
    }

    /// Everything that the client says until it closes.
    pub(crate) fn hear_all(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }
}
