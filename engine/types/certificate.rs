//! Root CA certificates of peers, checked before anything trusts them.
//!
//! istiod pools all roots and refuses to start on one it cannot use, so a root is read with more care than TLS would, and
//! whatever Go's crypto/x509 does not read is refused: X.509 version 3 (RFC 5280), a positive serial number, `CA:TRUE`,
//! `keyCertSign`, valid now, RSA of 2048 to 8192 bits, EC P-256, P-384 or P-521, or Ed25519; nothing else in the PEM but
//! the explanatory text of RFC 7468. What is kept is written anew, so nothing of the text gets further.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::types::cause::Cause;
use crate::types::name::Digest;
use crate::types::recent::Recent;
use crate::types::text::{LONGEST_OF_PEER, cut};
use crate::types::time::Timestamp;

/// Largest RSA key in bits: what Go's crypto/tls takes.
const MAX_RSA_BITS: usize = 8192;
/// Most certificates in one bundle.
pub const MAX_ROOTS: usize = 10;
/// Most bytes of one bundle.
pub const MAX_BUNDLE: usize = 64 * 1024;

/// A root CA certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCertificate {
    /// One PEM block, label `CERTIFICATE`, line feeds.
    pub pem: String,
    /// SHA-256 of its DER.
    pub digest: Digest,
    /// End of validity.
    pub not_after: Timestamp,
    /// Beginning of validity.
    pub not_before: Timestamp,
    /// Subject, nearly as in RFC 4514; control characters are escaped, so that it can be printed.
    pub subject: String,
    /// It has a `SubjectKeyIdentifier`, so chains are found although subjects are equal.
    pub has_subject_key_id: bool,
}

impl RootCertificate {
    /// Whole days until it ends; negative when it has ended.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        now.days_until(self.not_after)
    }
}

/// What is wrong with PEM blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificatePemFault {
    #[error("no BEGIN line")]
    NoBegin,
    /// Its content or its end.
    #[error("the base64 or an END line is broken")]
    Broken,
    /// One does not end.
    #[error("a block is broken off")]
    BrokenOff,
    /// Headers, which certificates do not have.
    #[error("a block has headers or an empty line")]
    Headers,
    /// No certificate, or one that does not end.
    #[error("no whole block `CERTIFICATE`")]
    NoBlock,
    /// What the parser found.
    #[error(transparent)]
    Parser(Cause<pem::PemError>),
}

/// What is wrong with a certificate's DER.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DerFault {
    /// More than the certificate.
    #[error("bytes follow the certificate")]
    Trailing,
    /// What the parser found.
    #[error(transparent)]
    Parser(Cause<x509_parser::nom::Err<X509Error>>),
}

impl From<x509_parser::nom::Err<X509Error>> for DerFault {
    fn from(error: x509_parser::nom::Err<X509Error>) -> Self {
        Self::Parser(error.into())
    }
}

/// A rule that a root certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootRule {
    /// It has ended.
    #[error("expired at {not_after}")]
    Expired { not_after: Timestamp },
    /// It has not begun.
    #[error("not valid before {not_before}")]
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
    },
    #[error("not an X.509 version 3 certificate")]
    NotVersion3,
    /// A serial number that Go does not read.
    #[error("its serial number is negative, which Go, and so istiod, does not read")]
    NegativeSerial,
    #[error("it ends before it begins")]
    EndsBeforeItBegins,
    #[error("not a CA certificate (CA:FALSE)")]
    NotCa,
    /// Basic constraints that cannot be read.
    #[error("broken basic constraints: {0}")]
    BasicConstraints(Cause<X509Error>),
    /// It may not sign certificates.
    #[error("its key usage lacks keyCertSign")]
    NoCertSign,
    /// A key usage that cannot be read.
    #[error("broken key usage: {0}")]
    KeyUsage(Cause<X509Error>),
    /// A key that is too short.
    #[error("expected an RSA key of at least 2048 bits, found {bits}")]
    RsaTooShort { bits: usize },
    /// A key that is too long.
    #[error("expected an RSA key of at most {MAX_RSA_BITS} bits, found {bits}")]
    RsaTooLong { bits: usize },
    #[error("its EC key is on another curve than P-256, P-384 and P-521")]
    Curve,
    /// Another form of a point.
    #[error("its EC key is no uncompressed point of P-256, P-384 or P-521")]
    Point,
    /// Another kind of key.
    #[error("its key is neither RSA nor EC nor Ed25519")]
    KeyKind,
    /// A key that cannot be read.
    #[error("its key is unreadable: {0}")]
    Key(Cause<X509Error>),
    /// It cannot be read again.
    #[error(transparent)]
    Der(Cause<x509_parser::nom::Err<X509Error>>),
}

/// A bundle that must not be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM, or a broken block.
    #[error("not PEM certificates: {0}")]
    Pem(CertificatePemFault),
    /// A private key beside the certificates.
    #[error("the PEM holds a private key (`{label}`); take it out and replace that key, since it was published")]
    PrivateKey {
        /// What its block is called.
        label: String,
    },
    /// A block that is no certificate.
    #[error("expected `CERTIFICATE` blocks alone in the PEM, found `{label}`")]
    Label {
        /// What it is called.
        label: String,
    },
    /// Too many, or none.
    #[error("expected 1 to {MAX_ROOTS} certificates, found {0}")]
    Count(usize),
    #[error("expected at most {MAX_BUNDLE} bytes, found {0}")]
    Size(usize),
    /// Broken DER.
    #[error("certificate {0} is unreadable: {1}")]
    Der(usize, DerFault),
    /// A rule is broken.
    #[error("root certificate `{}` is refused: {rule}", cut(subject, LONGEST_OF_PEER))]
    Rule {
        /// Subject of the certificate.
        subject: String,
        rule: RootRule,
    },
}

/// Reads a bundle whose certificates must be valid at `now`. Sorted by digest, each once.
pub fn parse_roots(pem: &str, now: Timestamp) -> Result<Vec<RootCertificate>, CertificateError> {
    let roots = parse_roots_any_time(pem)?;
    for root in &roots {
        let rule = if now > root.not_after {
            RootRule::Expired { not_after: root.not_after }
        } else if now < root.not_before {
            RootRule::NotYetValid { not_before: root.not_before }
        } else {
            continue;
        };
        return Err(CertificateError::Rule { subject: root.subject.clone(), rule });
    }
    Ok(roots)
}

/// The certificates of two texts in one, PEM; those of the first first, and none twice where the other has no new one.
pub fn both(one: Option<&str>, other: Option<&str>) -> Option<String> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other).map(ToOwned::to_owned) };
    let is_new = certificates(other).is_none_or(|new| !new.is_subset(&certificates(one).unwrap_or_default()));
    Some(if is_new { format!("{}\n{other}", one.trim_end()) } else { one.to_owned() })
}

thread_local! {
    static READ: RefCell<Recent<Arc<[RootCertificate]>>> = RefCell::default();
}

/// The same without the clock, for runs that must not know one. Clusters publish the same ones again and again.
pub fn parse_roots_any_time(pem: &str) -> Result<Vec<RootCertificate>, CertificateError> {
    if let Some(known) = READ.with_borrow(|read| read.get(pem.as_bytes())) {
        return Ok(known.to_vec());
    }
    let roots = read_roots(pem)?;
    READ.with_borrow_mut(|read| read.insert(pem.as_bytes(), roots.as_slice().into()));
    Ok(roots)
}

fn read_roots(pem: &str) -> Result<Vec<RootCertificate>, CertificateError> {
    if pem.len() > MAX_BUNDLE {
        return Err(CertificateError::Size(pem.len()));
    }
    let begins: Vec<&str> = pem.split("-----BEGIN ").skip(1).map(label).collect();
    if let Some(private) = begins.iter().find(|label| label.contains("PRIVATE KEY")) {
        return Err(CertificateError::PrivateKey { label: (*private).to_owned() });
    }
    if begins.is_empty() && !pem.trim().is_empty() {
        return Err(CertificateError::Pem(CertificatePemFault::NoBegin));
    }
    // The parser's own message may quote the text, and what is there may be secret.
    let broken = || CertificateError::Pem(CertificatePemFault::Broken);
    let blocks = pem::parse_many(pem).map_err(|_| broken())?;
    if begins.len() != blocks.len() {
        return Err(CertificateError::Pem(CertificatePemFault::BrokenOff));
    }
    if let Some(other) =
        blocks.iter().zip(begins).find_map(|(block, label)| (block.tag() != "CERTIFICATE").then_some(label))
    {
        return Err(CertificateError::Label { label: other.to_owned() });
    }
    if blocks.is_empty() || blocks.len() > MAX_ROOTS {
        return Err(CertificateError::Count(blocks.len()));
    }
    let mut roots = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        if block.headers().iter().next().is_some() {
            return Err(CertificateError::Pem(CertificatePemFault::Headers));
        }
        roots.push(root(at + 1, block.contents())?);
    }
    roots.sort_by_key(|root| root.digest);
    roots.dedup_by_key(|root| root.digest);
    Ok(roots)
}

/// The revocation lists of a text that one of these roots signed, PEM in a form of its own; `None`: there is none. A text that is
/// too long, or no PEM, has none.
pub fn revocations_of(text: &str, roots: &[RootCertificate]) -> Option<String> {
    if text.len() > MAX_BUNDLE {
        return None;
    }
    let signers: Vec<Vec<u8>> =
        roots.iter().filter_map(|root| pem::parse(&root.pem).ok()).map(pem::Pem::into_contents).collect();
    let is_ours = |block: &pem::Pem| {
        let Ok(([], list)) = CertificateRevocationList::from_der(block.contents()) else { return false };
        let signs = |der: &Vec<u8>| {
            let root = X509Certificate::from_der(der);
            root.is_ok_and(|(_, root)| {
                root.subject() == list.issuer() && list.verify_signature(root.public_key()).is_ok()
            })
        };
        block.tag() == "X509 CRL" && signers.iter().any(signs)
    };
    let blocks = pem::parse_many(text).ok()?;
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let ours = blocks.iter().filter(|block| is_ours(block));
    let text: String =
        ours.map(|block| pem::encode_config(&pem::Pem::new("X509 CRL", block.contents()), config)).collect();
    (!text.is_empty() && text.len() <= MAX_BUNDLE).then_some(text)
}

/// The SHA-256 of a PEM text, by which it is compared and shown.
pub(crate) fn digest_of_pem(pem: &str) -> Digest {
    Digest::of(pem.trim().as_bytes())
}

/// The certificates of a bundle by the SHA-256 of their DER, whatever they are for; `None`: it cannot be read.
pub(crate) fn certificates(bundle: &str) -> Option<BTreeSet<Digest>> {
    let blocks = pem::parse_many(bundle).ok()?;
    blocks.iter().map(|block| (block.tag() == "CERTIFICATE").then(|| Digest::of(block.contents()))).collect()
}

/// The certificates of a bundle one by one, PEM with LF; none where it cannot be read.
pub(crate) fn certificate_blocks(bundle: &str) -> impl Iterator<Item = String> + use<> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let blocks = pem::parse_many(bundle).unwrap_or_default().into_iter().filter(|block| block.tag() == "CERTIFICATE");
    blocks.map(move |block| pem::encode_config(&block, config))
}

/// The label that follows `-----BEGIN `, as far as it looks like one.
fn label(text: &str) -> &str {
    let end = text.bytes().take(64).take_while(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b' ')).count();
    text.get(..end).unwrap_or_default()
}

fn root(at: usize, der: &[u8]) -> Result<RootCertificate, CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| CertificateError::Der(at, error.into()))?;
    if !rest.is_empty() {
        return Err(CertificateError::Der(at, DerFault::Trailing));
    }
    let subject = certificate.subject().to_string();
    let subject: String =
        subject.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    if let Some(rule) = broken_rule(&certificate) {
        return Err(CertificateError::Rule { subject, rule });
    }
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(RootCertificate {
        pem: pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config),
        digest: Digest::of(der),
        not_after: Timestamp::from_seconds(certificate.validity().not_after.timestamp()),
        not_before: Timestamp::from_seconds(certificate.validity().not_before.timestamp()),
        subject,
        has_subject_key_id: certificate.extensions().iter().any(|e| e.oid == oid::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER),
    })
}

fn broken_rule(certificate: &X509Certificate<'_>) -> Option<RootRule> {
    if certificate.version() != x509_parser::x509::X509Version::V3 {
        return Some(RootRule::NotVersion3);
    }
    if certificate.raw_serial().first().is_none_or(|byte| byte & 0x80 != 0) {
        return Some(RootRule::NegativeSerial);
    }
    if certificate.validity().not_after < certificate.validity().not_before {
        return Some(RootRule::EndsBeforeItBegins);
    }
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {}
        Ok(_) => return Some(RootRule::NotCa),
        Err(error) => return Some(RootRule::BasicConstraints(error.into())),
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            return Some(RootRule::NoCertSign);
        }
        Ok(_) => {}
        Err(error) => return Some(RootRule::KeyUsage(error.into())),
    }
    broken_key(certificate)
}

fn broken_key(certificate: &X509Certificate<'_>) -> Option<RootRule> {
    let algorithm = &certificate.public_key().algorithm;
    if algorithm.algorithm == oid::OID_SIG_ED25519 {
        return None;
    }
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < 2048 => Some(RootRule::RsaTooShort { bits: key.key_size() }),
        Ok(PublicKey::RSA(key)) if key.key_size() > MAX_RSA_BITS => Some(RootRule::RsaTooLong { bits: key.key_size() }),
        Ok(PublicKey::RSA(_)) => None,
        Ok(PublicKey::EC(_)) => {
            let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            let known = [oid::OID_EC_P256, oid::OID_NIST_EC_P384, oid::OID_NIST_EC_P521];
            let fits = curve.is_some_and(|curve| known.contains(&curve));
            (!fits).then_some(RootRule::Curve)
        }
        Ok(_) => Some(RootRule::KeyKind),
        Err(error) => Some(RootRule::Key(error.into())),
    }
}
