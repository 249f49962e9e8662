//! A broadcast and echo server on fastwebsockets, tuned as far as the library goes.
//!
//! `peer-fastwebsockets PORT`: `/echo` echoes; every other path broadcasts to everybody, the sender included. One
//! thread. A task per connection hears a tokio broadcast channel. The library writes each frame at once, and has `flush`
//! for streams that buffer: so it writes into a buffer, and all that is there is flushed together.

use std::{error::Error, io, net::SocketAddr, pin::pin};

use bytes::Bytes;
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocket, WebSocketError, WebSocketWrite, upgrade,
};
use futures_util::FutureExt;
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::BufWriter,
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::broadcast::{self, error::RecvError},
    task::unconstrained,
};

/// Messages that a slow subscriber may be behind before it is dropped.
const LAG_MESSAGES_MAX: usize = 1 << 16;
/// What is gathered before a write is forced: many frames per system call.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
const BACKLOG: u32 = 4096;

type Reader = FragmentCollectorRead<OwnedReadHalf>;
type Writer = WebSocketWrite<BufWriter<OwnedWriteHalf>>;

#[derive(Clone)]
struct Message {
    opcode: OpCode,
    payload: Bytes,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: peer-fastwebsockets PORT")?.parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(BACKLOG)?;
    eprintln!("Listening on {}", listener.local_addr()?);
    let (everybody, _) = broadcast::channel(LAG_MESSAGES_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, everybody.clone()))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

async fn serve(stream: TcpStream, everybody: broadcast::Sender<Message>) {
    if let Err(error) = stream.set_nodelay(true) {
        eprintln!("TCP_NODELAY: {error}");
    }
    let service = service_fn(move |request| {
        let everybody = everybody.clone();
        async move { answer(request, everybody) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        eprintln!("handshake: {error}");
    }
}

fn answer(
    mut request: Request<Incoming>,
    everybody: broadcast::Sender<Message>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    // Before the 101 leaves: who has it hears everything.
    let heard = (request.uri().path() != "/echo").then(|| everybody.subscribe());
    // Without a budget a task takes all that is ready before it flushes.
    tokio::spawn(unconstrained(async move {
        let ended = match (upgraded.await.and_then(split), heard) {
            (Ok((reader, writer)), Some(heard)) => relay(reader, writer, heard, everybody).await,
            (Ok((reader, writer)), None) => echo(reader, writer).await,
            (Err(error), _) => Err(error),
        };
        match ended {
            Ok(()) | Err(WebSocketError::UnexpectedEOF | WebSocketError::ConnectionClosed) => {}
            Err(error) => eprintln!("connection: {error}"),
        }
    }));
    Ok(response)
}

/// Takes the TCP stream out of hyper's wrapper, which would cost a virtual call per read and write.
fn split(socket: WebSocket<TokioIo<hyper::upgrade::Upgraded>>) -> Result<(Reader, Writer), WebSocketError> {
    let parts = socket.into_inner().into_inner().downcast::<TokioIo<TcpStream>>();
    let parts = parts.map_err(|_| io::Error::other("the upgrade was not on TCP"))?;
    if !parts.read_buf.is_empty() {
        return Err(io::Error::other("frames before the end of the handshake").into());
    }
    let mut socket = WebSocket::after_handshake(parts.io.into_inner(), Role::Server);
    // Both halves are one task's: it answers by itself.
    socket.set_auto_close(false);
    socket.set_auto_pong(false);
    let (reader, writer) = socket.split(|stream| {
        let (reader, writer) = stream.into_split();
        (reader, BufWriter::with_capacity(WRITE_BUFFER_BYTES, writer))
    });
    Ok((FragmentCollectorRead::new(reader), writer))
}

async fn echo(mut reader: Reader, mut writer: Writer) -> Result<(), WebSocketError> {
    loop {
        let frame = {
            let mut answer = nothing_to_send;
            let mut next = pin!(reader.read_frame(&mut answer));
            match next.as_mut().now_or_never() {
                Some(frame) => frame?,
                None => {
                    writer.flush().await?;
                    next.await?
                }
            }
        };
        if is_data(frame.opcode) {
            writer.write_frame(Frame::new(true, frame.opcode, None, frame.payload)).await?;
        } else if !control(frame, &mut writer).await? {
            return Ok(());
        }
    }
}

async fn relay(
    mut reader: Reader,
    mut writer: Writer,
    mut heard: broadcast::Receiver<Message>,
    everybody: broadcast::Sender<Message>,
) -> Result<(), WebSocketError> {
    loop {
        let frame = {
            let mut answer = nothing_to_send;
            // Kept until it is done: a read that is dropped in the middle of a frame loses it.
            let mut next = pin!(reader.read_frame(&mut answer));
            loop {
                tokio::select! {
                    published = heard.recv() => {
                        let mut message = published.map_err(behind)?;
                        loop {
                            let payload = Payload::Borrowed(&message.payload);
                            writer.write_frame(Frame::new(true, message.opcode, None, payload)).await?;
                            match heard.try_recv() {
                                Ok(next) => message = next,
                                Err(_) => break,
                            }
                        }
                        writer.flush().await?;
                    }
                    frame = next.as_mut() => break frame?,
                }
            }
        };
        if is_data(frame.opcode) {
            let payload = match frame.payload {
                Payload::Bytes(bytes) => bytes.freeze(),
                other => Bytes::copy_from_slice(&other),
            };
            // Fails only without subscribers, and this connection is one.
            let _ = everybody.send(Message { opcode: frame.opcode, payload });
        } else if !control(frame, &mut writer).await? {
            return Ok(());
        }
    }
}

/// Answers a ping or a Close; false after a Close.
async fn control(frame: Frame<'_>, writer: &mut Writer) -> Result<bool, WebSocketError> {
    let is_open = frame.opcode != OpCode::Close;
    match frame.opcode {
        OpCode::Close => writer.write_frame(Frame::close_raw(frame.payload)).await?,
        OpCode::Ping => writer.write_frame(Frame::pong(frame.payload)).await?,
        _ => {}
    }
    writer.flush().await?;
    Ok(is_open)
}

fn is_data(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Text | OpCode::Binary)
}

/// What the reader would have sent: never called, since it answers nothing by itself.
async fn nothing_to_send(_: Frame<'_>) -> Result<(), WebSocketError> {
    Ok(())
}

fn behind(error: RecvError) -> WebSocketError {
    io::Error::other(error.to_string()).into()
}
