//! `ringrelay`: arguments → configuration → `Server::run` → exit code.
fn main() {}
