//! Any bytes on the standard input of `check`, `in` and `out`: an answer or a reason, and the token in neither.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libvirt_resource::concourse::request::{read_check, read_in, read_out};
use libvirt_resource::topology::Inputs;

fuzz_target!(|bytes: &[u8]| {
    for told in [
        read_check(bytes).err(),
        read_in(bytes).err(),
        read_out(bytes, &Inputs::of_step("/nonexistent")).err(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!told.0.is_empty());
        assert!(
            !told.to_string().contains(|c: char| c.is_control() && c != '\n'),
            "{told:?}"
        );
    }
});
