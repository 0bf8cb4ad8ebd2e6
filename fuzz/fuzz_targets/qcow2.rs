//! Any bytes as a qcow2 image: neither its header nor its tables may upset the reader.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use libvirt_resource::image::qcow2::{Header, LARGEST, check_tables};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::parse(bytes) {
        assert!(header.virtual_size <= LARGEST && header.virtual_size.bytes() >= 512);
        // A guest never sees further than the L1 table reaches.
        let reach = u128::from(header.l1_entries) * u128::from(header.l2_entries()) * u128::from(header.cluster());
        assert!(u128::from(header.virtual_size.bytes()) <= reach);
    }
    let checked = check_tables(&mut Cursor::new(bytes)).expect("a cursor reads without errors");
    assert!(checked.is_err() || Header::parse(bytes).is_ok());
});
