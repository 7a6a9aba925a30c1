//! One small process per container.
fn main() {}
