//! Signed bundles: a cluster's metadata as one file, for networks that do not meet.
//!
//! A bundle is an envelope of DSSE v1 (Dead Simple Signing Envelope, secure-systems-lab/dsse): the signature is over the
//! payload's type and bytes as they lie in the envelope, so nothing has to be written alike twice to be verified. One
//! signature, Ed25519. Beside it is the signer's public key, which proves nothing by itself: the reader compares its
//! fingerprint with one that came another way.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::types::json::{JsonError, parse_strict};
use crate::types::key::{KeyError, KeyId, PrivateKey, PublicKey};
use crate::types::name::{ClusterName, InvalidName, MeshName};
use crate::types::time::Timestamp;
use crate::wire::failure::shown;
use crate::wire::metadata::{MetadataError, PrivateDocument, PublicDocument, Reading};

/// `payloadType` of the envelope.
pub const PAYLOAD_TYPE: &str = "application/vnd.isthmus.metadata+json";
/// Version of the payload.
pub const BUNDLE_VERSION: u32 = 1;
/// Most bytes of an envelope: two documents of up to 1 MiB each, twice in base64 and JSON.
pub const LARGEST: usize = 6 << 20;

/// What a bundle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The mesh of the checkout that it was made in.
    pub mesh: MeshName,
    pub cluster: ClusterName,
    /// When it was made.
    pub created: Timestamp,
    /// The cluster's public document.
    pub public: PublicDocument,
    /// Its private document, without evidence: a file cannot say what is live.
    pub private: PrivateDocument,
}

/// Why a bundle was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it has more than {LARGEST} bytes")]
    TooLarge,
    /// No strict JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field is missing or of the wrong kind.
    #[error("`{0}` is missing or is not what it should be")]
    Field(&'static str),
    /// A field that no one knows.
    #[error("it has a field `{field}` that no bundle of this version has")]
    Unknown {
        /// The field, cut short.
        field: String,
    },
    #[error("expected version {BUNDLE_VERSION} of {PAYLOAD_TYPE}, found `{kind}`")]
    OtherType {
        /// Which, cut short.
        kind: String,
    },
    #[error("expected version {BUNDLE_VERSION} of {PAYLOAD_TYPE}, found version {version}")]
    OtherVersion { version: u64 },
    /// The signer's key is none.
    #[error("the signer's key is unusable: {0}")]
    Key(#[from] KeyError),
    /// The signature does not fit.
    #[error("its signature is not that of the key it names: it was changed on its way, or made by another signer")]
    Signature,
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A document that is none.
    #[error("{0}: {1}")]
    Document(&'static str, MetadataError),
    /// A document that lacks something.
    #[error("{0} lacks {1}")]
    Incomplete(&'static str, String),
}

impl Bundle {
    /// The signed envelope as JSON.
    pub fn sign(&self, id: &KeyId, key: &PrivateKey) -> String {
        let private = PrivateDocument { evidence: None, ..self.private.clone() };
        let payload = json!({
            "version": BUNDLE_VERSION, "mesh": self.mesh, "cluster": self.cluster, "clusterUUID": self.public.cluster_uuid,
            "created": self.created, "public": self.public.to_json(), "private": private.to_json(),
        });
        let payload = payload.to_string();
        let signature = BASE64_STANDARD.encode(key.sign(&encoded(payload.as_bytes())));
        let envelope = json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": BASE64_STANDARD.encode(payload.as_bytes()),
            "signatures": [{ "keyid": id, "sig": signature, "publicKey": key.public().to_pem() }],
        });
        format!("{envelope:#}\n")
    }
}

/// An envelope whose signature fits the key that it names. Whose key that is, the reader has to know.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The key that signed.
    pub signer: PublicKey,
    payload: Vec<u8>,
}

impl Sealed {
    /// Reads an envelope and verifies its signature, before a byte of the payload is looked at.
    pub fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > LARGEST {
            return Err(BundleError::TooLarge);
        }
        let envelope = parse_strict(bytes)?;
        only(&envelope, &["payloadType", "payload", "signatures"])?;
        let kind = text(&envelope, "payloadType")?;
        if kind != PAYLOAD_TYPE {
            return Err(BundleError::OtherType { kind: shown(kind) });
        }
        let payload = decoded(&envelope, "payload")?;
        let Some([signature]) = envelope.get("signatures").and_then(Value::as_array).map(Vec::as_slice) else {
            return Err(BundleError::Field("signatures"));
        };
        only(signature, &["keyid", "sig", "publicKey"])?;
        text(signature, "keyid")?.parse::<KeyId>()?;
        let signer = PublicKey::from_pem(text(signature, "publicKey")?)?;
        if !signer.verifies(&encoded(&payload), &decoded(signature, "sig")?) {
            return Err(BundleError::Signature);
        }
        Ok(Self { signer, payload })
    }

    /// What it says. To be asked only once the signer is known to be the right one.
    pub fn open(&self) -> Result<Bundle, BundleError> {
        let payload = parse_strict(&self.payload)?;
        let version = payload.get("version").and_then(Value::as_u64).ok_or(BundleError::Field("version"))?;
        if version != u64::from(BUNDLE_VERSION) {
            return Err(BundleError::OtherVersion { version });
        }
        only(&payload, &["version", "mesh", "cluster", "clusterUUID", "created", "public", "private"])?;
        let created = payload.get("created").and_then(Value::as_i64).ok_or(BundleError::Field("created"))?;
        let created = Timestamp::from_seconds(created);
        let public = whole("its public document", PublicDocument::parse(text(&payload, "public")?.as_bytes()))?;
        let private = whole("its private document", PrivateDocument::parse(text(&payload, "private")?.as_bytes()))?;
        if text(&payload, "clusterUUID")? != public.cluster_uuid.as_str() {
            return Err(BundleError::Field("clusterUUID"));
        }
        let (mesh, cluster) = (text(&payload, "mesh")?.parse()?, text(&payload, "cluster")?.parse()?);
        Ok(Bundle { mesh, cluster, created, public, private: PrivateDocument { evidence: None, ..private } })
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn text<'a>(value: &'a Value, field: &'static str) -> Result<&'a str, BundleError> {
    value.get(field).and_then(Value::as_str).ok_or(BundleError::Field(field))
}

fn decoded(value: &Value, field: &'static str) -> Result<Vec<u8>, BundleError> {
    BASE64_STANDARD.decode(text(value, field)?).map_err(|_| BundleError::Field(field))
}

fn only(value: &Value, known: &[&str]) -> Result<(), BundleError> {
    let fields = value.as_object().ok_or(BundleError::Field("signatures"))?.keys();
    match fields.into_iter().find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(BundleError::Unknown { field: shown(field) }),
        None => Ok(()),
    }
}

fn whole<T>(what: &'static str, reading: Result<Reading<T>, MetadataError>) -> Result<T, BundleError> {
    match reading.map_err(|error| BundleError::Document(what, error))? {
        Reading::Complete(document) => Ok(document),
        Reading::Incomplete(fields) => Err(BundleError::Incomplete(what, fields.join(", "))),
    }
}
