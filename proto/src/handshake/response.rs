//! The answer that turns an HTTP connection into a WebSocket (RFC 6455 section 4.2.2).

/// Appends the 101 response. `subprotocol` must be one that the client offered; extensions are declined by silence.
pub fn accept_response(out: &mut Vec<u8>, accept: &[u8; 28], subprotocol: Option<&str>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept);
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}
