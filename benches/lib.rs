//! Shared pieces of the micro-benchmarks.
