//! Sans-IO WebSocket protocol (RFC 6455).
#![forbid(unsafe_code)]
