//! The serving CA and the certificates that it issues: ECDSA on P-256, ten years and ninety days.
//!
//! Pure but for the random keys: the clock comes in. A certificate is issued again when two thirds of its life are over,
//! when the CA or the hosts that it is for are others, and when it cannot be read; else it stays as it is.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::server::Certificates;
use crate::types::certificate::{CertificateError, parse_roots_any_time};
use crate::types::time::Timestamp;

pub(super) const CA_LIFE: Duration = Duration::from_hours(3650 * 24);
/// Life of a certificate.
pub(super) const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);
/// By how much clocks may differ.
const BACKDATE: Duration = Duration::from_hours(1);

/// What cannot be issued, or issued with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum IssueError {
    #[error("the CA certificate cannot be used: {0}")]
    Certificate(#[from] CaFault),
    /// The CA's key.
    #[error("the CA's key cannot be used: {0}")]
    Key(#[from] CaKeyFault),
    #[error("cannot issue a certificate: {0}")]
    Issue(#[source] rcgen::Error),
}

/// Why a CA certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CaFault {
    #[error(transparent)]
    Roots(#[from] CertificateError),
    #[error("there has to be exactly one")]
    NotOne,
    #[error("it is no PEM")]
    NotPem,
    #[error(transparent)]
    Issuer(#[from] rcgen::Error),
    #[error("it has expired")]
    Expired,
}

/// Why a CA's key cannot be used. Nothing of it is in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CaKeyFault {
    #[error("it is no PKCS#8 key in PEM")]
    NotPkcs8,
    #[error("it is not the key of the CA certificate")]
    OfAnother,
}

/// Why a certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IssueReason {
    Missing,
    Incomplete,
    NotServable,
    NotPem,
    Unreadable,
    OtherCa,
    OtherHosts,
    Old,
}

impl fmt::Display for IssueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there was none",
            Self::Incomplete => "it could not be read",
            Self::NotServable => "it cannot be served",
            Self::NotPem => "it is no PEM",
            Self::Unreadable => "it cannot be read",
            Self::OtherCa => "the CA is another",
            Self::OtherHosts => "it is for other hosts",
            Self::Old => "two thirds of its life are over",
        })
    }
}

pub(super) struct IssuingCa {
    pem: String,
    key: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

impl fmt::Debug for IssuingCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority([redacted])")
    }
}

/// A certificate and its key, PEM.
pub(super) struct Leaf {
    pub(super) chain: String,
    pub(super) key: Zeroizing<String>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf([redacted])")
    }
}

fn new_key() -> Result<KeyPair, IssueError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::Issue)
}

fn validity(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let date_time = |time: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + time.since(Timestamp::EPOCH);
    params.not_before = date_time(from);
    params.not_after = date_time(to);
}

fn common_name(params: &mut CertificateParams, name: &str) {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
}

/// The first certificate of a PEM text.
fn der_of(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()
}

impl IssuingCa {
    pub(super) fn new(name: &str, now: Timestamp) -> Result<Self, IssueError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        common_name(&mut params, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now - BACKDATE, now + CA_LIFE);
        let pem = params.self_signed(&key).map_err(IssueError::Issue)?.pem();
        Self::read(&pem, Zeroizing::new(key.serialize_pem()))
    }

    /// One that was written down.
    pub(super) fn read(pem: &str, key: Zeroizing<String>) -> Result<Self, IssueError> {
        let roots = parse_roots_any_time(pem).map_err(CaFault::Roots)?;
        let [root] = &roots[..] else { return Err(CaFault::NotOne.into()) };
        // the parser's message may quote the key
        let pair = KeyPair::from_pem(&key).map_err(|_| CaKeyFault::NotPkcs8)?;
        let der = der_of(&root.pem).ok_or(CaFault::NotPem)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| CaFault::NotPem)?;
        if certificate.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(CaKeyFault::OfAnother.into());
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(CaFault::Issuer)?;
        Ok(Self { pem: root.pem.clone(), key, issuer, not_after: root.not_after })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn key_pem(&self) -> &str {
        &self.key
    }

    /// Issues a certificate for these hosts.
    pub(super) fn issue(&self, name: &str, hosts: &BTreeSet<String>, now: Timestamp) -> Result<Leaf, IssueError> {
        if self.not_after <= now {
            return Err(CaFault::Expired.into());
        }
        let key = new_key()?;
        let params = CertificateParams::new(hosts.iter().cloned().collect::<Vec<_>>());
        let mut params = params.map_err(IssueError::Issue)?;
        common_name(&mut params, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now - BACKDATE, (now + LEAF_LIFE).min(self.not_after));
        let chain = params.signed_by(&key, &self.issuer).map_err(IssueError::Issue)?.pem();
        Ok(Leaf { chain, key: Zeroizing::new(key.serialize_pem()) })
    }

    /// Why a certificate has to be issued again; `None` while it is good.
    pub(super) fn stale(&self, leaf: &Leaf, hosts: &BTreeSet<String>, now: Timestamp) -> Option<IssueReason> {
        if Certificates::from_pem(&leaf.chain, &leaf.key).is_err() {
            return Some(IssueReason::NotServable);
        }
        let (Some(der), Some(ca)) = (der_of(&leaf.chain), der_of(&self.pem)) else { return Some(IssueReason::NotPem) };
        let (Ok((_, certificate)), Ok((_, ca))) = (X509Certificate::from_der(&der), X509Certificate::from_der(&ca))
        else {
            return Some(IssueReason::Unreadable);
        };
        if certificate.verify_signature(Some(ca.public_key())).is_err() {
            return Some(IssueReason::OtherCa);
        }
        if hosts_of(&certificate) != *hosts {
            return Some(IssueReason::OtherHosts);
        }
        let validity = certificate.validity();
        let [from, to] =
            [validity.not_before, validity.not_after].map(|time| Timestamp::from_seconds(time.timestamp()));
        if now < from || now >= from + to.since(from) / 3 * 2 {
            return Some(IssueReason::Old);
        }
        None
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the parser's kinds of names are not ours")]
fn hosts_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.map_or_else(|_| "?".to_owned(), |address| address.to_string())
        }
        _ => "?".to_owned(),
    };
    names.value.general_names.iter().map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::DAY;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

    fn hosts(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_certificate_is_issued_again_for_a_reason_only() {
        let ca = IssuingCa::new("isthmus test", NOW).unwrap();
        let wanted = hosts(&["api.east.example.com", "203.0.113.7", "2001:db8::1"]);
        let leaf = ca.issue("isthmus-proxy", &wanted, NOW).unwrap();
        assert_eq!(ca.stale(&leaf, &wanted, NOW), None);
        assert_eq!(ca.stale(&leaf, &wanted, NOW + DAY * 59), None);
        assert_eq!(ca.stale(&leaf, &wanted, NOW + DAY * 60), Some(IssueReason::Old));
        assert_eq!(ca.stale(&leaf, &wanted, NOW - DAY), Some(IssueReason::Old));
        assert_eq!(ca.stale(&leaf, &hosts(&["api.east.example.com"]), NOW), Some(IssueReason::OtherHosts));
        // a CA of the same name is another
        let other = IssuingCa::new("isthmus test", NOW).unwrap();
        assert_eq!(other.stale(&leaf, &wanted, NOW), Some(IssueReason::OtherCa));
        let again = IssuingCa::read(ca.pem(), Zeroizing::new(ca.key_pem().to_owned())).unwrap();
        assert_eq!(again.stale(&leaf, &wanted, NOW), None);
        let second = again.issue("isthmus-proxy", &wanted, NOW).unwrap();
        assert_eq!(ca.stale(&second, &wanted, NOW), None);
        let mixed = Leaf { chain: leaf.chain, key: second.key };
        assert_eq!(ca.stale(&mixed, &wanted, NOW), Some(IssueReason::NotServable));
    }

    #[test]
    fn a_ca_is_read_with_its_own_key_only_and_shows_nothing() {
        let (one, two) = (IssuingCa::new("one", NOW).unwrap(), IssuingCa::new("two", NOW).unwrap());
        let mixed = IssuingCa::read(one.pem(), Zeroizing::new(two.key_pem().to_owned())).unwrap_err();
        assert!(matches!(mixed, IssueError::Key(_)), "{mixed}");
        let secret = "MIGHAgEAMBMGByqGSM49";
        let broken = format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n");
        let error = IssuingCa::read(one.pem(), Zeroizing::new(broken)).unwrap_err();
        assert!(!format!("{error} {error:?} {one:?}").contains(secret));
        assert!(matches!(one.issue("late", &hosts(&["a"]), NOW + CA_LIFE), Err(IssueError::Certificate(_))));
        let last = one.issue("last", &hosts(&["a"]), NOW + CA_LIFE - DAY).unwrap();
        assert!(x509_parser::pem::parse_x509_pem(last.chain.as_bytes()).is_ok());
    }
}
