//! A broadcast and echo server on axum, tuned as far as the library goes.
//!
//! `peer-axum PORT`: `/echo` echoes; every other path broadcasts to everybody, the sender included. One thread. A task
//! per connection hears a tokio broadcast channel; it feeds all that is there and flushes once, so that frames share
//! system calls. A message is one reference-counted buffer, not a copy per subscriber.

use std::{error::Error, net::SocketAddr};

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::any,
    serve::ListenerExt,
};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    net::TcpSocket,
    sync::broadcast::{self, error::RecvError},
    task::unconstrained,
};

/// Messages that a slow subscriber may be behind before it is dropped.
const LAG_MESSAGES_MAX: usize = 1 << 16;
/// The default is 128 KiB per connection; no scenario has that much in one turn.
const READ_BUFFER_BYTES: usize = 16 << 10;
/// What is gathered before a write is forced: many frames per system call.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
const BACKLOG: u32 = 4096;

type Everybody = broadcast::Sender<Message>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: peer-axum PORT")?.parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(BACKLOG)?;
    eprintln!("Listening on {}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY: {error}");
        }
    });
    let (everybody, _) = broadcast::channel(LAG_MESSAGES_MAX);
    let router = Router::new().route("/echo", any(upgrade_echo)).fallback(any(upgrade_relay)).with_state(everybody);
    Ok(axum::serve(listener, router).await?)
}

fn sized(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(WRITE_BUFFER_BYTES)
}

// Without a budget a task takes all that is ready before it flushes.
async fn upgrade_echo(upgrade: WebSocketUpgrade) -> Response {
    sized(upgrade).on_upgrade(|socket| async { unconstrained(echo(socket)).await.unwrap_or_else(report) })
}

async fn upgrade_relay(State(everybody): State<Everybody>, upgrade: WebSocketUpgrade) -> Response {
    // Before the 101 leaves: who has it hears everything.
    let heard = everybody.subscribe();
    sized(upgrade)
        .on_upgrade(|socket| async { unconstrained(relay(socket, heard, everybody)).await.unwrap_or_else(report) })
}

async fn echo(mut socket: WebSocket) -> Result<(), axum::Error> {
    while let Some(message) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let message = message?;
            if is_data(&message) {
                socket.feed(message).await?;
            }
            next = socket.next().now_or_never().flatten();
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn relay(
    mut socket: WebSocket,
    mut heard: broadcast::Receiver<Message>,
    everybody: Everybody,
) -> Result<(), axum::Error> {
    loop {
        tokio::select! {
            published = heard.recv() => match published {
                Ok(message) => {
                    socket.feed(message).await?;
                    while let Ok(message) = heard.try_recv() {
                        socket.feed(message).await?;
                    }
                    socket.flush().await?;
                }
                Err(RecvError::Lagged(count)) => return Err(axum::Error::new(format!("{count} messages behind"))),
                Err(RecvError::Closed) => return Ok(()),
            },
            received = socket.next() => match received {
                Some(message) => {
                    let message = message?;
                    if is_data(&message) {
                        // Fails only without subscribers, and this connection is one.
                        let _ = everybody.send(message);
                    }
                }
                None => return Ok(()),
            },
        }
    }
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Text(_) | Message::Binary(_))
}

/// Clients that are gone without a goodbye are errors to axum, and nothing of note here.
fn report(error: axum::Error) {
    let text = error.to_string();
    if !text.contains("without closing handshake") && !text.contains("closed") {
        eprintln!("connection: {text}");
    }
}
