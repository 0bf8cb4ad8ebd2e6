//! Any text as a topology file: a topology that can be planned, or a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libvirt_resource::topology::plan::{HostNetwork, plan};
use libvirt_resource::topology::{Inputs, document, validate};
use rand::SeedableRng as _;

fuzz_target!(|text: &str| {
    let raw = match document::from_either(text) {
        Ok(raw) => raw,
        Err(told) => {
            assert!(!told.0.is_empty());
            assert!(
                !told.to_string().contains(|c: char| c.is_control() && c != '\n'),
                "{told:?}"
            );
            return;
        }
    };
    match validate(&raw, &Inputs::of_folder(".")) {
        Err(told) => {
            assert!(
                !told.to_string().contains(|c: char| c.is_control() && c != '\n'),
                "{told:?}"
            );
            assert!(
                told.0.iter().all(|problem| problem.message != "cannot be read"),
                "{raw}"
            );
        }
        Ok(topology) => {
            let mut rng = rand::rngs::StdRng::seed_from_u64(text.len() as u64);
            let host = HostNetwork {
                uplink_mtu: 1500,
                ..HostNetwork::default()
            };
            if let Ok(name) = "fuzz".parse() {
                let plan = plan(&topology, &host, name, &mut rng).expect("nothing is taken around this host");
                assert_eq!(plan.nodes.len(), topology.nodes.len());
            }
        }
    }
});
