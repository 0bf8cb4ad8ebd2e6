//! The keys of one cluster: made for it, gone with it.

use serde::{Deserialize, Serialize};

/// The SSH keys of one cluster. `Debug` shows no private part.
#[derive(Clone, Serialize, Deserialize)]
pub struct ClusterKeys {
    /// The private key with which one logs in to every node, in OpenSSH's PEM form.
    pub login_private: String,
    /// Its public line, `ssh-ed25519 AAAA… CLUSTER`.
    pub login_public: String,
}

/// A node's SSH host key.
#[derive(Clone, Serialize, Deserialize)]
pub struct HostKey {
    /// In OpenSSH's PEM form.
    pub private: String,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub public: String,
}
