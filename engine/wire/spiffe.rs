//! A cluster's root CAs as a SPIFFE bundle (SPIFFE Trust Domain and Bundle, section 4): a JWK Set (RFC 7517) with one key a
//! root, RSA, EC or Ed25519 (RFC 7518, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::types::certificate::{
    CertificateError, CertificatePemFault, RootCertificate, RootRule, parse_roots_any_time,
};

/// Seconds after which a consumer should read the bundle again.
pub const REFRESH_HINT: u64 = 300;

/// The bundle of the roots in a PEM text, two-space JSON. `sequence` rises with each change of the roots.
pub fn bundle(roots: &str, sequence: u64) -> Result<String, CertificateError> {
    let roots = parse_roots_any_time(roots)?;
    let keys = roots.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let bundle = json!({ "spiffe_sequence": sequence, "spiffe_refresh_hint": REFRESH_HINT, "keys": keys });
    Ok(format!("{bundle:#}"))
}

fn key(root: &RootCertificate) -> Result<Value, CertificateError> {
    let unreadable = |rule| CertificateError::Rule { subject: root.subject.clone(), rule };
    let block =
        pem::parse(&root.pem).map_err(|error| CertificateError::Pem(CertificatePemFault::Parser(error.into())))?;
    let der = block.contents();
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| unreadable(RootRule::Der(error.into())))?;
    let info = certificate.public_key();
    let url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let number =
        |bytes: &[u8]| url(bytes.get(bytes.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default());
    let mut key = match info.parsed() {
        Ok(PublicKey::RSA(key)) => json!({ "kty": "RSA", "n": number(key.modulus), "e": number(key.exponent) }),
        Ok(PublicKey::EC(point)) => {
            let (curve, size) = match point.key_size() {
                256 => ("P-256", 32),
                384 => ("P-384", 48),
                _ => ("P-521", 66),
            };
            match point.data().split_first() {
                Some((4, both)) if both.len() == 2 * size => {
                    let (x, y) = both.split_at(size);
                    json!({ "kty": "EC", "crv": curve, "x": url(x), "y": url(y) })
                }
                _ => return Err(unreadable(RootRule::Point)),
            }
        }
        _ if info.algorithm.algorithm == OID_SIG_ED25519 => {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": url(&info.subject_public_key.data) })
        }
        _ => return Err(unreadable(RootRule::KeyKind)),
    };
    if let Value::Object(fields) = &mut key {
        fields.insert("use".to_owned(), "x509-svid".into());
        fields.insert("x5c".to_owned(), json!([STANDARD.encode(der)]));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

    fn root(key: &KeyPair) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn each_kind_of_root_is_a_key_of_the_bundle() {
        let keys = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        let pem: String = keys.iter().map(|algorithm| root(&KeyPair::generate_for(algorithm).unwrap())).collect();
        let rsa = include_str!("../../fixtures/real/east/root-cert.pem");
        let bundle: Value = serde_json::from_str(&bundle(&format!("{pem}{rsa}"), 7).unwrap()).unwrap();
        assert_eq!(bundle["spiffe_sequence"], 7);
        assert_eq!(bundle["spiffe_refresh_hint"], REFRESH_HINT);
        let mut kinds: Vec<_> =
            bundle["keys"].as_array().unwrap().iter().map(|key| key["kty"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["EC", "EC", "OKP", "RSA"]);
        for key in bundle["keys"].as_array().unwrap() {
            assert_eq!(key["use"], "x509-svid");
            assert!(STANDARD.decode(key["x5c"][0].as_str().unwrap()).is_ok());
            match key["kty"].as_str().unwrap() {
                "RSA" => assert_eq!(key["e"], "AQAB"),
                "EC" => assert_eq!(key["x"].as_str().unwrap().len(), key["y"].as_str().unwrap().len()),
                _ => assert_eq!(key["crv"], "Ed25519"),
            }
        }
    }
}
