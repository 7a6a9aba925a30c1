//! Sandboxes and containers: one state machine each, supervision, recovery, stats, events.
