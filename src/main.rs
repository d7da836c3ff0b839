//! The `peselgate` binary.
fn main() {}
