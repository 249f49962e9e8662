//! `loadgen`.
fn main() {}
