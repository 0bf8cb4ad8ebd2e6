//! The keys of one cluster: made for it, gone with it.

use std::fmt;

use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

use crate::fault::Fault;
use crate::topology::name::Name;

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

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The kernel gave no random bytes.
    #[error("cannot make an SSH key: the kernel gives no random bytes")]
    Random(#[source] rand::rand_core::OsError),
    /// The key could not be written down.
    #[error("cannot make an SSH key: it cannot be encoded")]
    Encode(#[source] ssh_key::Error),
}

impl Fault for KeyError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Random(_) => {
                Some("Check that /dev/urandom is there and that getrandom(2) is not filtered.".to_owned())
            }
            Self::Encode(_) => None,
        }
    }
}

impl ClusterKeys {
    /// A new login key, commented with the cluster's name so that it can be told apart in `authorized_keys`.
    pub fn generate(cluster: &Name) -> Result<Self, KeyError> {
        let (login_private, login_public) = ed25519(cluster.as_str())?;
        Ok(Self {
            login_private,
            login_public,
        })
    }
}

impl HostKey {
    /// A new host key.
    pub fn generate() -> Result<Self, KeyError> {
        let (private, public) = ed25519("")?;
        Ok(Self { private, public })
    }
}

/// A new key pair: private in PEM, public as a line.
fn ed25519(comment: &str) -> Result<(String, String), KeyError> {
    let mut seed = [0; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut seed)
        .map_err(KeyError::Random)?;
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    let private = key
        .to_openssh(LineEnding::LF)
        .map_err(KeyError::Encode)?
        .to_string();
    let public = key.public_key().to_openssh().map_err(KeyError::Encode)?;
    Ok((private, public.trim_end().to_owned()))
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKeys")
            .field("login_public", &self.login_public)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_line_belongs_to_the_private_key_and_names_the_cluster() {
        let keys = ClusterKeys::generate(&"brisk-otter-3f9c".parse().unwrap()).unwrap();
        let private = PrivateKey::from_openssh(&keys.login_private).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), keys.login_public);
        assert!(keys.login_public.starts_with("ssh-ed25519 AAAA"));
        assert!(keys.login_public.ends_with(" brisk-otter-3f9c"));
        assert!(
            keys.login_private
                .ends_with("-----END OPENSSH PRIVATE KEY-----\n")
        );
    }

    #[test]
    fn a_host_key_has_no_comment_and_no_two_are_alike() {
        let key = HostKey::generate().unwrap();
        assert_eq!(key.public.split(' ').count(), 2);
        assert_ne!(key.public, HostKey::generate().unwrap().public);
    }

    #[test]
    fn debug_shows_no_private_part() {
        let keys = ClusterKeys::generate(&"c".parse().unwrap()).unwrap();
        let host = HostKey::generate().unwrap();
        let shown = format!("{keys:?} {host:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
        assert!(shown.contains(&host.public));
    }
}
