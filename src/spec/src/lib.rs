//! Pure: (CRI config, image config, node defaults, devices) to an OCI runtime spec.

pub mod request;
