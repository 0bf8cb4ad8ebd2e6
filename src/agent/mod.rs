//! The process that holds a cluster: life cycle, API, forwards, proxy, expiry.
pub mod api;
pub mod host;
