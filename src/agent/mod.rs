//! The process that holds a cluster: life cycle, API, forwards, proxy, expiry.
//!
//! `out` and `nodectl` [`launch`] it and talk to it over a socket pair in the words of [`order`]; it runs as [`serve`]
//! in a PID namespace of its own, brings the cluster up ([`bring_up`]), holds it ([`hold`]),
//! starts and switches its machines ([`machines`]) and takes it down
//! ([`takedown`]). While nodes boot, [`watch`] gathers what can be seen of them. [`state`] is what it leaves on disk for whoever comes later.

pub mod adopt;
pub mod api;
pub mod bring_up;
pub mod daemons;
pub mod family;
pub mod forward;
pub mod hold;
pub mod host;
pub mod judging;
pub mod launch;
pub mod machines;
pub mod order;
pub mod proxy;
pub mod serve;
pub mod service;
pub mod session;
pub mod ssh;
pub mod state;
pub mod switch;
pub mod takedown;
pub mod view;
pub mod wait;
pub mod watch;
pub mod wire;
