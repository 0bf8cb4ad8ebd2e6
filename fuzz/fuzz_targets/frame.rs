//! Any bytes as a frame that a guest sends into a user-mode network: whatever reads them takes them or leaves them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libvirt_resource::agent::switch::read_frame;

fuzz_target!(|frame: &[u8]| read_frame(frame));
