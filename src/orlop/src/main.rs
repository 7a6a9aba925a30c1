//! The orlop binary: command line, configuration, wiring.
fn main() {}
