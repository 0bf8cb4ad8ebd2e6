//! How far a guest has come with its virtio devices, as QEMU tells it (`x-query-virtio`, `x-query-virtio-status`).

use serde_json::Value;

/// One virtio device as the guest has set it up: the bits of its device status (VIRTIO 1.2, 2.1), and more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtioState {
    /// QEMU's name for its kind: `virtio-blk`, `virtio-net`.
    pub name: String,
    /// The guest knows that it is there.
    pub acknowledge: bool,
    /// The guest has a driver for it.
    pub driver: bool,
    /// They agreed on the features.
    pub features_ok: bool,
    /// It is being driven.
    pub driver_ok: bool,
    /// The guest has given up on it.
    pub failed: bool,
    /// How many features the guest uses, of the device and of its transport.
    pub guest_features: u32,
}

/// The paths of the devices, by which each is asked about; those of a kind in the order in which the guest sees them, as
/// libvirt numbers them: `/machine/peripheral/virtio-disk0/virtio-backend`. QEMU's own order is none.
pub(super) fn paths(devices: &Value) -> Vec<&str> {
    let devices = devices.as_array().into_iter().flatten();
    let mut paths: Vec<&str> = devices.filter_map(|device| device["path"].as_str()).collect();
    // The shorter number is the smaller.
    paths.sort_by_key(|path| (path.len(), *path));
    paths
}

/// One device's state; `None` where the answer tells none.
pub(super) fn state(status: &Value) -> Option<VirtioState> {
    let statuses = status["status"]["statuses"].as_array()?;
    // `VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready`.
    let has = |wanted: &str| {
        let words = statuses.iter().filter_map(Value::as_str);
        words
            .filter_map(|said| said.split(':').next()?.strip_prefix("VIRTIO_CONFIG_S_"))
            .any(|said| said == wanted)
    };
    Some(VirtioState {
        name: status["name"].as_str()?.to_owned(),
        acknowledge: has("ACKNOWLEDGE"),
        driver: has("DRIVER"),
        features_ok: has("FEATURES_OK"),
        driver_ok: has("DRIVER_OK"),
        failed: has("FAILED"),
        guest_features: features(&status["guest-features"]),
    })
}

/// Known ones come by name, unknown ones as bits.
fn features(features: &Value) -> u32 {
    let named = |list: &str| features[list].as_array().map_or(0, Vec::len) as u32;
    let bits = |mask: &str| features[mask].as_u64().map_or(0, u64::count_ones);
    named("dev-features") + named("transports") + bits("unknown-dev-features")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_driven_device_and_one_that_nobody_touched() {
        // QEMU 10.0, shortened.
        let driven = json!({
            "device-endian": "little", "name": "virtio-blk", "started": true, "num-vqs": 1,
            "status": {"statuses": [
                "VIRTIO_CONFIG_S_ACKNOWLEDGE: Valid virtio device found",
                "VIRTIO_CONFIG_S_DRIVER: Guest OS compatible with device",
                "VIRTIO_CONFIG_S_FEATURES_OK: Feature negotiation complete",
                "VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready"]},
            "guest-features": {
                "dev-features": ["VIRTIO_BLK_F_BLK_SIZE: Block size of disk available",
                                 "VIRTIO_BLK_F_SEG_MAX: Max segments in a request is seg_max"],
                "transports": ["VIRTIO_F_VERSION_1: Device compliant for v1 spec (legacy)"]}
        });
        let state_of = state(&driven).unwrap();
        assert_eq!(state_of.name, "virtio-blk");
        assert!(state_of.acknowledge && state_of.driver && state_of.features_ok && state_of.driver_ok);
        assert!(!state_of.failed);
        assert_eq!(state_of.guest_features, 3);
        let untouched = json!({
            "name": "virtio-balloon", "status": {"statuses": []},
            "guest-features": {"dev-features": [], "transports": [], "unknown-dev-features": 3u64 << 30}
        });
        let state_of = state(&untouched).unwrap();
        assert!(!state_of.acknowledge && !state_of.driver && !state_of.driver_ok);
        assert_eq!(state_of.guest_features, 2);
    }

    #[test]
    fn the_paths_are_those_of_the_devices() {
        let devices = json!([{"path": "/machine/a", "name": "virtio-blk"}, {"name": "virtio-net"}, 3]);
        assert_eq!(paths(&devices), ["/machine/a"]);
        let disk = |number: u8| json!({ "path": format!("/m/virtio-disk{number}/b"), "name": "virtio-blk" });
        let devices = json!([disk(10), disk(2), { "path": "/m/net0/b" }, disk(0)]);
        assert_eq!(
            paths(&devices),
            [
                "/m/net0/b",
                "/m/virtio-disk0/b",
                "/m/virtio-disk2/b",
                "/m/virtio-disk10/b"
            ]
        );
        assert!(paths(&json!({"error": 1})).is_empty());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[A-Z_: ]{0,40}".prop_map(Value::from),
        ];
        let keys = prop_oneof![
            Just("name"),
            Just("path"),
            Just("status"),
            Just("statuses"),
            Just("guest-features"),
            Just("dev-features"),
            Just("unknown-dev-features")
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((keys.clone().prop_map(str::to_owned), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(answer in any_json()) {
            let _ = paths(&answer);
            let _ = state(&answer);
        }
    }
}
