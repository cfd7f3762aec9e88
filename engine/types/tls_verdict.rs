//! What is wrong with a server's certificate, or with its TLS: the library's verdict as one that people can act on.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use crate::types::text::{LONGEST_OF_PEER, quoted};
use crate::types::time::Timestamp;

/// Most names of a certificate that are shown.
const MOST_NAMES: usize = 8;

/// What is wrong with a server's certificate, or with its TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsVerdict {
    /// Signed by none of the CAs that count: this one, where it was seen.
    UnknownIssuer(Option<Presented>),
    Expired {
        /// When; `None`: TLS did not say.
        at: Option<Timestamp>,
    },
    NotYetValid {
        /// When; `None`: TLS did not say.
        at: Option<Timestamp>,
    },
    WrongName {
        /// Names in the certificate.
        presented: Vec<String>,
    },
    /// Something else about the certificate.
    Certificate(Flaw),
    /// Something else about TLS.
    Handshake(Trouble),
}

/// Names in a certificate that was presented, as RFC 4514 writes them, cut to what is shown of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presented {
    /// Whom it names.
    pub subject: String,
    /// Who signed it, as it says.
    pub issuer: String,
}

impl fmt::Display for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer } = self;
        if subject == issuer {
            return write!(f, "`{subject}` signed it for itself");
        }
        write!(f, "`{issuer}` signed it for `{subject}`")
    }
}

/// An error of a verifier who trusts no one that signed the certificate.
#[derive(Debug)]
struct NotTrusted(Presented);

impl fmt::Display for NotTrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TlsVerdict::UnknownIssuer(Some(self.0.clone())).fmt(f)
    }
}

impl std::error::Error for NotTrusted {}

/// The error of a verifier, with the names in the certificate where no one that is trusted signed it.
pub(crate) fn unknown_issuer(error: Error, certificate: &[u8]) -> Error {
    let Error::InvalidCertificate(CertificateError::UnknownIssuer) = error else { return error };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return error };
    let shown = |name: &X509Name<'_>| quoted(&name.to_string(), LONGEST_OF_PEER);
    let presented = Presented { subject: shown(certificate.subject()), issuer: shown(certificate.issuer()) };
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotTrusted(presented)))))
}

/// Flaws of a certificate, or of the chain to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    IsCa,
    /// What signed it is no CA.
    IssuerIsNoCa,
    /// X.509 before version 3.
    OldVersion,
    /// It is for clients, or for something else.
    Purpose,
    /// Its CA may not sign for its names.
    NotForCa,
    /// More CAs stand between than theirs allow.
    ChainTooLong,
    /// An algorithm that is not trusted any more, such as SHA-1, or a key that is too short.
    Algorithm,
    /// An extension that is not understood, or is broken.
    Extension,
    Revoked,
    /// No certificate can be read in it.
    Unreadable,
    /// It is refused for another reason.
    Other,
}

/// What hinders TLS beside certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// What answers speaks no TLS.
    NoTls,
    /// Neither TLS 1.2 nor 1.3, or none of our algorithms.
    NothingInCommon,
    /// It knows no host of the name that it was asked for.
    UnknownName,
    /// It wants a certificate of whoever asks, or does not take the one that it was shown.
    WantsCertificate,
    /// It ended the handshake without a reason that helps.
    Refused,
    /// It breaks the protocol.
    Broken,
}

impl TlsVerdict {
    /// The verdict in an error and its causes, where TLS is the matter.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        crate::types::cause::find::<Error>(error).map(Self::of_tls)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors are not ours, and not all known")]
    pub(crate) fn of_tls(error: &Error) -> Self {
        let trouble = match error {
            Error::InvalidCertificate(certificate) => return Self::of_certificate(certificate),
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => Trouble::NoTls,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Trouble::NothingInCommon,
            Error::AlertReceived(alert) => match alert {
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity
                | AlertDescription::NoApplicationProtocol => Trouble::NothingInCommon,
                AlertDescription::UnrecognisedName => Trouble::UnknownName,
                AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied => Trouble::WantsCertificate,
                _ => Trouble::Refused,
            },
            Error::NoCertificatesPresented => return Self::Certificate(Flaw::Unreadable),
            _ => Trouble::Broken,
        };
        Self::Handshake(trouble)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors are not ours, and not all known")]
    fn of_certificate(error: &CertificateError) -> Self {
        let at = |time: &UnixTime| Some(Timestamp::EPOCH + Duration::from_secs(time.as_secs()));
        let flaw = match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => return Self::UnknownIssuer(None),
            CertificateError::ExpiredContext { not_after, .. } => return Self::Expired { at: at(not_after) },
            CertificateError::Expired => return Self::Expired { at: None },
            CertificateError::NotValidYetContext { not_before, .. } => return Self::NotYetValid { at: at(not_before) },
            CertificateError::NotValidYet => return Self::NotYetValid { at: None },
            CertificateError::NotValidForNameContext { presented, .. } => {
                // shown as `DnsName("m.example")`
                let name = |shown: &String| shown.split('"').nth(1).unwrap_or(shown).to_owned();
                return Self::WrongName { presented: presented.iter().take(MOST_NAMES).map(name).collect() };
            }
            CertificateError::NotValidForName => return Self::WrongName { presented: Vec::new() },
            CertificateError::BadEncoding => Flaw::Unreadable,
            CertificateError::Revoked => Flaw::Revoked,
            CertificateError::UnhandledCriticalExtension => Flaw::Extension,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Flaw::Purpose,
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Flaw::Algorithm,
            CertificateError::Other(OtherError(other)) if other.is::<NotTrusted>() => {
                return Self::UnknownIssuer(other.downcast_ref().map(|NotTrusted(presented)| presented.clone()));
            }
            CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
                Some(webpki::Error::CaUsedAsEndEntity) => Flaw::IsCa,
                Some(webpki::Error::EndEntityUsedAsCa) => Flaw::IssuerIsNoCa,
                Some(webpki::Error::UnsupportedCertVersion) => Flaw::OldVersion,
                Some(webpki::Error::NameConstraintViolation) => Flaw::NotForCa,
                Some(webpki::Error::PathLenConstraintViolated | webpki::Error::MaximumPathDepthExceeded) => {
                    Flaw::ChainTooLong
                }
                Some(webpki::Error::SignatureAlgorithmMismatch) => Flaw::Algorithm,
                Some(
                    webpki::Error::ExtensionValueInvalid
                    | webpki::Error::MalformedExtensions
                    | webpki::Error::UnsupportedCriticalExtension
                    | webpki::Error::EmptyEkuExtension
                    | webpki::Error::MalformedNameConstraint
                    | webpki::Error::InvalidNetworkMaskConstraint,
                ) => Flaw::Extension,
                Some(webpki::Error::InvalidSerialNumber | webpki::Error::MalformedDnsIdentifier) => Flaw::Unreadable,
                _ => Flaw::Other,
            },
            _ => Flaw::Other,
        };
        Self::Certificate(flaw)
    }
}

impl fmt::Display for TlsVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer(presented) => {
                f.write_str("its certificate is signed by none of the CAs that are trusted for it")?;
                presented.as_ref().map_or(Ok(()), |presented| write!(f, ": {presented}"))
            }
            Self::Expired { at: Some(at) } => write!(f, "its certificate expired at {at}"),
            Self::Expired { at: None } => f.write_str("its certificate has expired"),
            Self::NotYetValid { at: Some(at) } => write!(f, "its certificate is not valid before {at}"),
            Self::NotYetValid { at: None } => f.write_str("its certificate is not valid yet"),
            Self::WrongName { presented } if presented.is_empty() => {
                f.write_str("its certificate names no host at all (it needs a subjectAltName)")
            }
            Self::WrongName { presented } => {
                let names: Vec<String> =
                    presented.iter().map(|name| format!("`{}`", quoted(name, LONGEST_OF_PEER))).collect();
                write!(f, "its certificate is not for this host but for {}", names.join(", "))
            }
            Self::Certificate(flaw) => write!(f, "its certificate {flaw}"),
            Self::Handshake(trouble) => trouble.fmt(f),
        }
    }
}

impl std::error::Error for TlsVerdict {}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IsCa => {
                "is itself a CA (basicConstraints CA:TRUE), which no server's may be: let the CA sign one for the server"
            }
            Self::IssuerIsNoCa => {
                "is signed by one that is no CA (basicConstraints lacks CA:TRUE): sign it by a CA, or make that one a CA"
            }
            Self::OldVersion => "is of an X.509 version before 3: issue it anew with extensions",
            Self::Purpose => "is not for servers: its extendedKeyUsage has to contain serverAuth",
            Self::NotForCa => "has names for which its CA may not sign (nameConstraints)",
            Self::ChainTooLong => "has more CAs above it than they allow (pathlen)",
            Self::Algorithm => {
                "is signed by an algorithm, or with a key, that is not trusted: use SHA-256 or better and RSA of 2048 bits or ECDSA"
            }
            Self::Extension => "has an extension that is broken or not understood",
            Self::Revoked => "was revoked",
            Self::Unreadable => "cannot be read",
            Self::Other => "is refused; `openssl s_client -connect HOST:PORT -showcerts` shows its chain",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTls => "what answers there speaks no TLS: check scheme and port",
            Self::NothingInCommon => "it speaks neither TLS 1.3 nor TLS 1.2 with algorithms that are safe",
            Self::UnknownName => "it has no certificate for the name that it was asked for",
            Self::WantsCertificate => "it wants a certificate of whoever asks, or refuses the one that it was shown",
            Self::Refused => "it ended the TLS handshake without a reason",
            Self::Broken => "its TLS breaks the protocol",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No name of a variant of the library is a reason.
    #[test]
    fn no_word_of_a_library_is_shown() {
        let other = |error: webpki::Error| CertificateError::Other(rustls::OtherError(Arc::new(error)));
        let certificates = [
            (CertificateError::UnknownIssuer, "signed by none of the CAs"),
            (CertificateError::BadSignature, "signed by none of the CAs"),
            (CertificateError::Expired, "has expired"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::NotValidForName, "names no host at all"),
            (CertificateError::Revoked, "was revoked"),
            (CertificateError::InvalidPurpose, "serverAuth"),
            (CertificateError::ApplicationVerificationFailure, "openssl s_client"),
            (other(webpki::Error::CaUsedAsEndEntity), "is itself a CA"),
            (other(webpki::Error::EndEntityUsedAsCa), "no CA"),
            (other(webpki::Error::UnsupportedCertVersion), "X.509"),
            (other(webpki::Error::NameConstraintViolation), "nameConstraints"),
        ];
        let errors = certificates.into_iter().map(|(error, word)| (Error::InvalidCertificate(error), word));
        let alerts = [
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "TLS 1.2"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "wants a certificate"),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), "no certificate for the name"),
            (Error::AlertReceived(AlertDescription::InternalError), "without a reason"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "speaks no TLS"),
            (Error::PeerMisbehaved(rustls::PeerMisbehaved::TooManyEmptyFragments), "breaks the protocol"),
        ];
        for (error, word) in errors.chain(alerts) {
            let verdict = TlsVerdict::of_tls(&error);
            let shown = verdict.to_string();
            assert!(shown.contains(word), "{shown}");
            let variant = format!("{error:?}");
            let names = variant.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 10);
            for name in names {
                assert!(!shown.contains(name), "{shown} has {name}");
            }
            // also behind what other libraries wrap it in
            let wrapped = std::io::Error::other(error);
            assert_eq!(TlsVerdict::of(&wrapped), Some(verdict));
        }
        assert_eq!(TlsVerdict::of(&std::io::Error::other("refused")), None);
    }
}
