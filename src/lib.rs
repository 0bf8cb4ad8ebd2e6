//! A Concourse resource type whose `put` boots libvirt/QEMU virtual machines that stand in for bare-metal nodes.
//!
//! The rooms, in the order in which data flows through them:
//!
//! - [`concourse`]: the protocol of `check`, `in` and `out`: request, response, version, metadata.
//! - [`topology`]: what was asked for (raw, as written) becomes what it means (validated) and what will be made (planned).
//! - [`image`]: a disk image is found or fetched, verified, unpacked and laid under overlays.
//! - [`first_boot`]: the keys of a cluster, and the seed that puts them into its nodes.
//! - [`hypervisor`]: the only room that speaks to libvirt: connection, XML, events.
//! - [`boot`]: judges from evidence how far a node has come; knows nothing of libvirt.
//! - [`agent`]: the process that holds a cluster: life cycle, API, forwards, proxy, expiry.
//! - [`access`]: the files by which later steps reach a cluster, as `in` and `nodectl` write them.
//! - [`report`]: how the nodes came up, or why not, as JSON and as a page.
//! - [`doctor`]: what this container can and cannot do, and what would cure it.
//!
//! Beside them stand four things that every room may use: [`fault`] (how an error is told), [`progress`] (how a long
//! piece of work is told), [`exit`] (statuses) and [`units`].

pub mod access;
pub mod agent;
pub mod boot;
pub mod buildlog;
pub mod cli;
pub mod concourse;
pub mod doctor;
pub mod exit;
pub mod fault;
pub mod first_boot;
pub mod hypervisor;
pub mod image;
mod live;
pub mod progress;
pub mod report;
pub mod step;
pub mod topology;
pub mod units;
