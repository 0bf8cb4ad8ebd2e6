//! What cloud-init reads: meta-data, user-data and network-config of its NoCloud data source.

pub mod check;
pub mod kind;
pub mod look;
pub mod mime;
pub mod network;
pub mod ours;

use super::FirstBootError;
use super::keys::{ClusterKeys, HostKey};
use crate::topology::model::UserName;
use kind::Kind;
use look::Look;
use mime::Part;

/// How ours is merged onto what the user's parts have built (cloud-init, `mergers/`): a key that is there stays,
/// dictionaries are walked, lists get ours appended.
const MERGE_TYPE: &str = "dict(no_replace,recurse_list)+list(append)+str()";

/// The whole user-data: ours alone where the user has none, else a MIME message of theirs and ours.
///
/// Ours goes last, since cloud-init merges a part by that part's own rule: the user's would replace ours, while ours
/// says that it only adds.
pub fn user_data(
    ssh_user: &UserName,
    keys: &ClusterKeys,
    host_key: &HostKey,
    theirs: Option<&[u8]>,
) -> Result<Vec<u8>, FirstBootError> {
    let Some(theirs) = theirs else {
        return Ok(ours::user_data(ssh_user, keys, host_key, true).into_bytes());
    };
    let theirs = kind::unpack(theirs)?;
    let kind = kind::of(&theirs)?;
    let look = if kind == Kind::CloudConfig {
        look::at(&theirs)?
    } else {
        Look::default()
    };
    let mut parts = vec![match kind {
        Kind::Mime => Part::Message(kind::text(&theirs)?),
        _ => Part::Attachment {
            content_type: kind.content_type(),
            file_name: "user-data",
            merge_type: None,
            body: &theirs,
        },
    }];
    // cloud-init lets the first entry of a name win where two set the same field, so that appending an entry would
    // lose our key: it has to go into theirs.
    let patch = look.key_patch(ssh_user, &keys.login_public);
    if let Some(patch) = &patch {
        parts.push(Part::Attachment {
            content_type: Kind::CloudConfigJsonp.content_type(),
            file_name: "login-key",
            merge_type: None,
            body: patch.as_bytes(),
        });
    }
    // A `users` list of theirs says whether the image's default user is to be made; one of ours must not drop it.
    let ours = ours::user_data(ssh_user, keys, host_key, !look.has_users());
    parts.push(Part::Attachment {
        content_type: Kind::CloudConfig.content_type(),
        file_name: "cluster",
        merge_type: Some(MERGE_TYPE),
        body: ours.as_bytes(),
    });
    Ok(mime::message(&parts))
}
