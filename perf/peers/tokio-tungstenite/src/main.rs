//! A broadcast and echo server on tokio-tungstenite, tuned as far as the design goes.
//!
//! `peer-tokio-tungstenite PORT`: `/echo` echoes; every other path broadcasts to everybody, the sender included. One
//! thread. A task per connection hears a tokio broadcast channel; it feeds all that is there and flushes once, so that
//! frames share system calls. A message is one reference-counted buffer, not a copy per subscriber.

use std::{error::Error, io, net::SocketAddr};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::broadcast::{self, error::RecvError},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        self, Message,
        handshake::server::{Request, Response},
        protocol::WebSocketConfig,
    },
};

/// Messages that a slow subscriber may be behind before it is dropped.
const LAG_MESSAGES_MAX: usize = 1 << 16;
/// tungstenite's default is 128 KiB per connection; no scenario has that much in one turn.
const READ_BUFFER_BYTES: usize = 16 << 10;
/// What is gathered before a write is forced: many frames per system call.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
const BACKLOG: u32 = 4096;

type Socket = WebSocketStream<TcpStream>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: peer-tokio-tungstenite PORT")?.parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(BACKLOG)?;
    eprintln!("Listening on {}", listener.local_addr()?);
    let (everybody, _) = broadcast::channel(LAG_MESSAGES_MAX);
    loop {
        match listener.accept().await {
            // Without a budget a task takes all that is ready before it flushes.
            Ok((stream, _)) => drop(tokio::spawn(tokio::task::unconstrained(serve(stream, everybody.clone())))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

async fn serve(stream: TcpStream, everybody: broadcast::Sender<Message>) {
    match open(stream).await {
        Ok((socket, true)) => echo(socket).await.unwrap_or_else(report),
        Ok((socket, false)) => relay(socket, everybody).await.unwrap_or_else(report),
        Err(error) => report(error),
    }
}

/// The opening handshake; true if the path is that of the echo.
async fn open(stream: TcpStream) -> Result<(Socket, bool), tungstenite::Error> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(WRITE_BUFFER_BYTES);
    let mut is_echo = false;
    let note_path = |request: &Request, response: Response| {
        is_echo = request.uri().path() == "/echo";
        Ok(response)
    };
    let socket = accept_hdr_async_with_config(stream, note_path, Some(config)).await?;
    Ok((socket, is_echo))
}

async fn echo(mut socket: Socket) -> Result<(), tungstenite::Error> {
    while let Some(message) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let message = message?;
            if message.is_text() || message.is_binary() {
                socket.feed(message).await?;
            }
            next = socket.next().now_or_never().flatten();
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn relay(mut socket: Socket, everybody: broadcast::Sender<Message>) -> Result<(), tungstenite::Error> {
    let mut heard = everybody.subscribe();
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
                Err(RecvError::Lagged(count)) => return Err(io::Error::other(format!("{count} messages behind")).into()),
                Err(RecvError::Closed) => return Ok(()),
            },
            received = socket.next() => match received {
                Some(message) => {
                    let message = message?;
                    if message.is_text() || message.is_binary() {
                        // Fails only without subscribers, and this connection is one.
                        let _ = everybody.send(message);
                    }
                }
                None => return Ok(()),
            },
        }
    }
}

fn report(error: tungstenite::Error) {
    use tungstenite::{Error, error::ProtocolError};
    if !matches!(error, Error::ConnectionClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) {
        eprintln!("connection: {error}");
    }
}
