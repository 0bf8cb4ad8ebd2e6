//! Judges from evidence how far a node has come; knows nothing of libvirt.
//!
//! [`evidence`] is what can be seen of a node; a [`judge::Judge`] is fed with it and tells [`phase`]s and a
//! [`verdict::Verdict`], whose [`cause::Cause`] says what to do. The same judge runs live and over a [`recording`].

pub mod cause;
pub mod console;
pub mod document;
mod escapes;
pub mod evidence;
pub mod judge;
mod line;
mod marks;
pub mod phase;
mod prefix;
pub mod recording;
pub mod show;
pub mod timeline;
pub mod verdict;
