//! Any bytes as a Vagrant box: the reader may refuse, but neither panic nor give out more than it was asked for.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use libvirt_resource::image::vagrant::{disk, disk_name};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(name)) = disk_name(bytes) {
        assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."));
    }
    let mut buffer = [0; 4096];
    let _ = disk(&mut || Ok(bytes), &mut |data| {
        // The holes of a sparse file cost nothing to describe and much to fill: the sink has a limit for that.
        for _ in 0..256 {
            if data.read(&mut buffer)? == 0 {
                break;
            }
        }
        Ok(())
    });
});
