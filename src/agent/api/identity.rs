//! The certificate of one cluster's agent, made for it.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256 as Hasher};

use crate::topology::model::Sha256;
use crate::topology::name::Name;

/// A key pair and the self-signed certificate for it (ECDSA on P-256).
///
/// It is valid for ever, as a certificate's time goes: clients judge it by its fingerprint, which is born and dies with
/// the cluster, and the clocks of a worker's containers are nobody's to rely on.
#[derive(Debug)]
pub struct Identity {
    /// In DER form.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// SHA-256 of the certificate's DER form.
    pub fingerprint: Sha256,
}

impl Identity {
    /// A new one for a cluster.
    pub fn generate(cluster: &Name) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![cluster.to_string()])?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, cluster.as_str());
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        let certificate = params.self_signed(&key)?.der().clone();
        let fingerprint = fingerprint(&certificate);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self {
            certificate,
            key,
            fingerprint,
        })
    }
}

/// SHA-256 of a certificate's DER form.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Sha256 {
    Sha256(Hasher::digest(certificate.as_ref()).into())
}
