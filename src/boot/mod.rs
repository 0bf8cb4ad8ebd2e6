//! Judges from evidence how far a node has come; knows nothing of libvirt.

pub mod cause;
pub mod console;
pub mod evidence;
mod line;
pub mod phase;
