//! Ed25519 keys: the public halves that clusters publish, the private halves that sign tokens.
//!
//! Any of the PEM labels in use is read (`PUBLIC KEY` of RFC 7468, `ED25519 PUBLIC KEY` of Deckhouse); Deckhouse's is
//! written. Keys that would verify forged signatures (small order, non-canonical encodings) are refused at import, since
//! the verifier in use follows RFC 8032 without the strict rules.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::types::name::{Digest, InvalidName};

/// Label of public keys, as Deckhouse writes it.
const PUBLIC_LABEL: &str = "ED25519 PUBLIC KEY";
/// Label of private keys, as Deckhouse writes it.
const PRIVATE_LABEL: &str = "ED25519 PRIVATE KEY";
/// `SubjectPublicKeyInfo` of an Ed25519 key up to the 32 bytes of the point (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS#8 version 1 of an Ed25519 key up to the 32 bytes of the seed (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What is wrong with a PEM block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyPemFault {
    #[error("no BEGIN line")]
    NoBegin,
    #[error("no END line")]
    NoEnd,
    /// Its content or its end.
    #[error("the base64 or the END line is broken")]
    Broken,
    #[error("the BEGIN line is broken")]
    Begin,
    #[error("it has headers; encrypted keys are not read")]
    Headers,
}

/// A text that is no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM block, or a broken one.
    #[error("not a PEM block: {0}")]
    Pem(KeyPemFault),
    /// More than one block, or text around it.
    #[error("expected one PEM block and nothing around it")]
    NotAlone,
    /// A private key where a public one is wanted.
    #[error(
        "expected a public key, found a private one; replace the key pair, since the private half was put in the wrong place"
    )]
    Private,
    /// A label of something else.
    #[error("expected a {1}, found a PEM block `{0}`")]
    Label(String, &'static str),
    /// Another algorithm, or broken DER.
    #[error("not an Ed25519 key (RFC 8410)")]
    NotEd25519,
    /// A key under which forged signatures verify.
    #[error(
        "a weak key: its point has a small order or a non-canonical encoding, so forged signatures would verify; make a new key pair"
    )]
    Weak,
}

/// The id of a key, the `kid` of its tokens: 1 to 63 letters, digits, `-`, `_` or `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !text.starts_with('.');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName { kind: "key id", text: text.to_owned(), rule: "1 to 63 letters, digits, `-`, `_` or `.`" })
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The one PEM block of a text: its label and its DER. Errors quote nothing but a label, since what is misread here may
/// be a private key.
fn single_block(text: &str) -> Result<(String, Zeroizing<Vec<u8>>), KeyError> {
    let unescaped = Zeroizing::new(unescaped(text));
    let text = unescaped.trim_matches([' ', '\t', '\r', '\n']);
    if !text.contains("-----BEGIN ") {
        return Err(KeyError::Pem(KeyPemFault::NoBegin));
    }
    if text.matches("-----BEGIN ").count() != 1 || !text.starts_with("-----BEGIN ") {
        return Err(KeyError::NotAlone);
    }
    let (_, end) = text.rsplit_once("-----END ").ok_or(KeyError::Pem(KeyPemFault::NoEnd))?;
    let block = pem::parse(text).map_err(|_| KeyError::Pem(KeyPemFault::Broken))?;
    let label = block.tag().to_owned();
    if label.len() > 64 || !label.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b' ')) {
        return Err(KeyError::Pem(KeyPemFault::Begin));
    }
    if block.headers().iter().next().is_some() {
        return Err(KeyError::Pem(KeyPemFault::Headers));
    }
    if end.strip_suffix("-----") != Some(label.as_str()) {
        return Err(KeyError::NotAlone);
    }
    Ok((label, Zeroizing::new(block.into_contents())))
}

/// A text of one line whose line breaks, or quotes around it, are written out: variables of CI systems and `.env` files hold PEM so.
fn unescaped(text: &str) -> String {
    let text = text.trim();
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    let text = quoted('"').or_else(|| quoted('\'')).unwrap_or(text);
    if text.contains('\n') { text.to_owned() } else { text.replace("\\r", "").replace("\\n", "\n") }
}

/// One block as Go's `pem.EncodeToMemory` writes it. A key's DER is at most 48 bytes, which is one line of base64.
fn encode(label: &str, der: &[u8]) -> String {
    let mut text = String::with_capacity(160);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    BASE64_STANDARD.encode_string(der, &mut text);
    text.extend(["\n-----END ", label, "-----\n"]);
    text
}

/// The public half of a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads one PEM block with either label.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = single_block(text)?;
        match label.as_str() {
            PUBLIC_LABEL | "PUBLIC KEY" => {}
            label if label.ends_with("PRIVATE KEY") => return Err(KeyError::Private),
            _ => return Err(KeyError::Label(label, "public key")),
        }
        let point = der.strip_prefix(&SPKI_PREFIX).and_then(|point| <[u8; 32]>::try_from(point).ok());
        Self::from_point(point.ok_or(KeyError::NotEd25519)?)
    }

    /// The key of test 1 in RFC 8032, section 7.1, whose private half is known to everybody. A verifier that knows no
    /// key for a token checks this one and ignores the outcome, so that an unknown sender waits as long as a known one.
    pub(crate) fn unowned() -> Self {
        Self([
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
            0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ])
    }

    fn from_point(point: [u8; 32]) -> Result<Self, KeyError> {
        if is_weak(&point) { Err(KeyError::Weak) } else { Ok(Self(point)) }
    }

    /// One PEM block with Deckhouse's label and one final newline.
    pub fn to_pem(&self) -> String {
        encode(PUBLIC_LABEL, &self.spki())
    }

    /// The `SubjectPublicKeyInfo`, DER.
    pub fn spki(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// The key's own id: the first 16 hex digits of the SHA-256 of its `SubjectPublicKeyInfo`.
    pub fn id(&self) -> KeyId {
        KeyId(self.fingerprint().short(16))
    }

    /// The SHA-256 of its `SubjectPublicKeyInfo`.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.spki())
    }

    /// Whether the signature is this key's over the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_pem())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_pem(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// y coordinates of the points whose order divides 8, little-endian, without the sign bit: 0, 1, p - 1 and the two of
/// order 8 (Chalkias, Garillot, Nikolaenko, "Taming the many `EdDSAs`", table 6). Encodings of y >= p are refused apart.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether the encoding is not canonical (y >= p = 2^255 - 19) or the point has a small order.
fn is_weak(point: &[u8; 32]) -> bool {
    let mut y = *point;
    let [low, middle @ .., high] = &mut y;
    *high &= 0x7f;
    let not_canonical = *low >= 0xed && *high == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    not_canonical || SMALL_ORDER.contains(&y)
}

/// The private half of a key. It shows itself to no one.
pub struct PrivateKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl PrivateKey {
    /// A key from 32 random bytes.
    pub fn generate(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Self::of(Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotEd25519)?)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let point = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self { public: PublicKey::from_point(point)?, pair })
    }

    /// Reads one PEM block, PKCS#8 version 1 or 2, with either label.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = single_block(text)?;
        if label != PRIVATE_LABEL && label != "PRIVATE KEY" {
            return Err(KeyError::Label(label, "private key"));
        }
        Self::of(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::NotEd25519)?)
    }

    /// One PEM block, PKCS#8 version 1, with Deckhouse's label.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let seed = self.pair.seed().map_err(|_| KeyError::NotEd25519)?;
        let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| KeyError::NotEd25519)?;
        let der = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed.as_ref()].concat());
        Ok(Zeroizing::new(encode(PRIVATE_LABEL, &der)))
    }

    /// The public half, which peers verify signatures with.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature over a message, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_read_what_they_write() {
        let key = PrivateKey::generate(&[7; 32]).unwrap();
        let again = PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem()).unwrap(), *key.public());
        let plain = key.public().to_pem().replace("ED25519 PUBLIC", "PUBLIC");
        assert_eq!(PublicKey::from_pem(&format!("\n {plain}\r\n")).unwrap(), *key.public());
        assert!(key.public().verifies(b"message", &key.sign(b"message")));
        assert!(!key.public().verifies(b"another", &key.sign(b"message")));
        assert_eq!(format!("{key:?}"), "PrivateKey([redacted])");
    }

    #[test]
    fn what_is_no_public_key_says_why() {
        let key = PrivateKey::generate(&[7; 32]).unwrap();
        let pem = key.public().to_pem();
        assert_eq!(PublicKey::from_pem(&key.to_pem().unwrap()), Err(KeyError::Private));
        assert_eq!(PublicKey::from_pem(&format!("{pem}{pem}")), Err(KeyError::NotAlone));
        assert_eq!(PublicKey::from_pem(&format!("{pem}junk")), Err(KeyError::NotAlone));
        assert_eq!(PublicKey::from_pem(&format!("{}junk-----", pem.trim_end())), Err(KeyError::NotAlone));
        assert_eq!(PublicKey::from_pem(&format!("junk\n{pem}")), Err(KeyError::NotAlone));
        assert!(matches!(PublicKey::from_pem("<html>"), Err(KeyError::Pem(_))));
        assert_eq!(PublicKey::from_pem(&encode("PUBLIC KEY", &key.public().spki()[..43])), Err(KeyError::NotEd25519));
    }

    #[test]
    fn public_keys_are_written_as_go_writes_them() {
        // RFC 8410, section 10.1, with Deckhouse's label.
        let text = "-----BEGIN ED25519 PUBLIC KEY-----\n\
                    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                    -----END ED25519 PUBLIC KEY-----\n";
        let key = PublicKey::from_pem(text).unwrap();
        assert_eq!(key.to_pem(), text);
        assert_eq!(key.id().as_str(), &key.fingerprint().hex()[..16]);
        assert_eq!(PublicKey::from_pem(text.trim_end()).unwrap(), key);
        assert_eq!(PublicKey::from_pem(&text.replace('\n', "\r\n")).unwrap(), key);
    }

    #[test]
    fn private_keys_of_both_versions_are_read() {
        // RFC 8410, section 10.3: version 1, and version 2 with the public half.
        let one = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
        let pem = |base64: &str| format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        let key = PrivateKey::from_pem(&pem(one)).unwrap();
        assert_eq!(key.to_pem().unwrap().as_str(), pem(one).replace(" PRIVATE", " ED25519 PRIVATE"));
        let seed = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let two = BASE64_STANDARD.encode(seed.to_pkcs8().unwrap());
        let read = PrivateKey::from_pem(&pem(&two)).unwrap();
        assert_eq!(read.public(), PrivateKey::generate(&[9; 32]).unwrap().public());
        let wrong = PrivateKey::from_pem(&key.public().to_pem()).unwrap_err();
        assert_eq!(wrong.to_string(), "expected a private key, found a PEM block `ED25519 PUBLIC KEY`");
    }

    #[test]
    fn a_key_in_one_line_is_read() {
        let key = PrivateKey::generate(&[7; 32]).unwrap();
        let pem = key.to_pem().unwrap();
        let escaped = pem.trim_end().replace('\n', "\\n");
        for text in [
            pem.trim_end().to_owned(),
            pem.replace('\n', "\r\n"),
            pem.trim_end().replace('\n', " "),
            pem.replace('\n', "\\n"),
            pem.replace('\n', "\\r\\n"),
            format!("\"{escaped}\""),
            format!("'{escaped}'\n"),
        ] {
            assert_eq!(
                PrivateKey::from_pem(&text).map(|read| read.public().clone()),
                Ok(key.public().clone()),
                "{text:?}"
            );
        }
        assert_eq!(PublicKey::from_pem(&key.public().to_pem().replace('\n', "\\n")), Ok(key.public().clone()));
    }

    #[test]
    fn no_error_quotes_a_key() {
        let secret = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
        for text in [
            format!("-----BEGIN PRIVATE KEY----\n{secret}\n-----END PRIVATE KEY-----"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n\n-----END PRIVATE KEY-----"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END {secret}-----"),
            format!("-----BEGIN PRIVATE KEY-----\nDEK-Info: {secret}\n\nAAAA\n-----END PRIVATE KEY-----"),
            format!("-----BEGIN {secret}-----\n{secret}\n-----END {secret}-----"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----{secret}-----"),
            secret.to_owned(),
        ] {
            for error in [PrivateKey::from_pem(&text).unwrap_err(), PublicKey::from_pem(&text).unwrap_err()] {
                assert!(!format!("{error} {error:?}").contains(&secret[4..20]), "{error}");
            }
        }
    }

    #[test]
    fn weak_points_are_refused_in_every_encoding() {
        for mut point in SMALL_ORDER {
            assert_eq!(PublicKey::from_point(point), Err(KeyError::Weak));
            point[31] |= 0x80;
            assert_eq!(PublicKey::from_point(point), Err(KeyError::Weak));
        }
        for low in 0xed..=0xff {
            let mut point = [0xff; 32];
            point[0] = low;
            assert_eq!(PublicKey::from_point(point), Err(KeyError::Weak));
            point[31] = 0x7f;
            assert_eq!(PublicKey::from_point(point), Err(KeyError::Weak));
        }
    }
}
