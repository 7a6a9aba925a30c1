//! What daemon and shim agree on: Task v3 over ttrpc, bundle layout, bootstrap.
