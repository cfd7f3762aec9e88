//! Tokens: minting, and the one strict verifier that every server uses.
//!
//! A token is a compact JWS (RFC 7515, RFC 8037) with Deckhouse's claims. The verifier is stricter than Deckhouse's: it
//! follows RFC 8725 and refuses whatever two readers could take in two ways. It judges in this order:
//!
//! 1. one `Authorization` value, `Bearer ` exactly, at most [`MAX_TOKEN`] bytes, three segments of unpadded base64url;
//! 2. the header: strict JSON, `alg` of Ed25519, nothing that brings its own key or changes what is signed;
//! 3. the key, chosen by `sub` and `kid`, the only claim that is read before the signature is known to be good;
//! 4. the signature; where no key is known, one is checked against a key of no one, so that both take equally long;
//! 5. the claims, each required and typed, and the times.
//!
//! [`Rejected`] is for the audit log alone: whoever asked sees the same 401 for every reason.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::types::json::parse_strict;
use crate::types::key::{KeyId, PrivateKey, PublicKey};
use crate::types::name::{ClusterUuid, DECKHOUSE_ISTIO, InvalidName};
use crate::types::time::Timestamp;

/// `iss` of every token, as Deckhouse writes it.
pub const ISSUER: &str = DECKHOUSE_ISTIO;
/// Most bytes of a token.
pub const MAX_TOKEN: usize = 8 * 1024;
/// By how much the clocks of two clusters may differ.
pub const LEEWAY: Duration = Duration::from_mins(1);
/// How long a token for a private document lives that we mint.
pub const METADATA_LIFETIME: Duration = Duration::from_mins(1);
/// Longest life of one that is admitted.
pub const MAX_METADATA_LIFETIME: Duration = Duration::from_mins(5);
/// Longest life of a token for the api-proxy.
pub const MAX_API_LIFETIME: Duration = Duration::from_hours(14 * 24);
/// The same for `deckhouse` peers, whose tokens live 366 days.
pub const MAX_DECKHOUSE_API_LIFETIME: Duration = Duration::from_hours(400 * 24);

/// What a token asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Scope {
    /// Kubernetes through the api-proxy.
    #[serde(rename = "api")]
    Api,
    /// `private/federation.json`.
    #[serde(rename = "private-federation")]
    PrivateFederation,
    /// `private/multicluster.json`.
    #[serde(rename = "private-multicluster")]
    PrivateMulticluster,
}

impl Scope {
    /// Every scope that a token may carry.
    pub const ALL: [Self; 3] = [Self::Api, Self::PrivateFederation, Self::PrivateMulticluster];

    /// The scope as it is in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::PrivateFederation => "private-federation",
            Self::PrivateMulticluster => "private-multicluster",
        }
    }

    /// Longest `exp - nbf` of its tokens.
    pub fn max_lifetime(self) -> Duration {
        match self {
            Self::Api => MAX_API_LIFETIME,
            Self::PrivateFederation | Self::PrivateMulticluster => MAX_METADATA_LIFETIME,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| InvalidName {
            kind: "scope",
            text: text.to_owned(),
            rule: "one of `api`, `private-federation`, `private-multicluster`",
        })
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// UUID of the cluster that is asked.
    pub aud: String,
    /// Valid until.
    pub exp: Timestamp,
    /// [`ISSUER`].
    pub iss: String,
    /// Valid from.
    pub nbf: Timestamp,
    pub scope: Scope,
    /// UUID of the cluster that asks.
    pub sub: String,
}

/// A minted token. It shows itself through [`Token::expose`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// The token itself, for a header or a kubeconfig.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Makes a token. The same key, claims and id give the same bytes. The header names `EdDSA`, since Deckhouse answers the
/// newer name `Ed25519` (RFC 9864) with 401; claims stand in Deckhouse's order.
pub fn mint(key: &PrivateKey, claims: &Claims, kid: Option<&KeyId>) -> Token {
    // Fields are written in the order they are declared; texts and integers cannot fail to be written.
    sign(key, &serde_json::to_string(claims).unwrap_or_default(), kid)
}

/// The same with a `jti`, which makes it another token than any with the same claims: an exporter admits each one once.
pub fn mint_unique(key: &PrivateKey, claims: &Claims, kid: Option<&KeyId>, id: u128) -> Token {
    #[derive(Serialize)]
    struct UniqueId<'a> {
        #[serde(flatten)]
        claims: &'a Claims,
        jti: String,
    }
    let unique = UniqueId { claims, jti: format!("{id:032x}") };
    sign(key, &serde_json::to_string(&unique).unwrap_or_default(), kid)
}

fn sign(key: &PrivateKey, payload: &str, kid: Option<&KeyId>) -> Token {
    let header = match kid {
        None => r#"{"alg":"EdDSA"}"#.to_owned(),
        // A key id has no quote and no backslash.
        Some(kid) => format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
    };
    let mut token = Zeroizing::new(String::with_capacity(512));
    BASE64_URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Token(token)
}

/// Who may ask: the peers that a server knows.
pub trait KeyLookup {
    /// The keys that are admitted for that cluster and the scope of this request: with `kid` the one of that id, without
    /// it the cluster's own, which are its `authnKeyPub`. None for a cluster, id or scope that is not admitted.
    fn keys(&self, subject: &str, kid: Option<&str>) -> Vec<PublicKey>;

    /// Longest `exp - nbf` of that cluster's tokens; `usual` is the server's limit.
    fn max_lifetime(&self, _subject: &str, usual: Duration) -> Duration {
        usual
    }
}

impl<F: Fn(&str, Option<&str>) -> Vec<PublicKey>> KeyLookup for F {
    fn keys(&self, subject: &str, kid: Option<&str>) -> Vec<PublicKey> {
        self(subject, kid)
    }
}

/// What a server wants of a token.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// UUID of the server's own cluster.
    pub audience: &'a str,
    /// What the asked path is about.
    pub scope: Scope,
    pub now: Timestamp,
    /// Longest `exp - nbf`: [`Scope::max_lifetime`], unless [`KeyLookup::max_lifetime`] says otherwise.
    pub max_lifetime: Duration,
}

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it says; `claims.sub`, a canonical UUID, is who asks.
    pub claims: Claims,
    /// The key id it names.
    pub kid: Option<String>,
    /// The key that signed it.
    pub key: PublicKey,
}

/// Why a token is refused, for the audit log; never for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Rejected {
    /// No `Authorization` header.
    #[error("no Authorization header")]
    Missing,
    #[error("several Authorization headers")]
    SeveralHeaders,
    /// Not `Bearer `, byte for byte.
    #[error("not a Bearer authorization")]
    Scheme,
    /// More than [`MAX_TOKEN`] bytes.
    #[error("token longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("not three segments")]
    Segments,
    /// A segment is no unpadded base64url.
    #[error("a segment is not unpadded base64url")]
    Encoding,
    /// The header is no JSON object, or has a key twice or in another case.
    #[error("header is not a strict JSON object")]
    Header,
    /// `alg` is missing or not Ed25519.
    #[error("algorithm is not EdDSA")]
    Algorithm,
    /// A header that brings its own key or changes what is signed.
    #[error("header has a forbidden parameter (crit, b64, jwk, jku or x5*)")]
    Parameter,
    /// `kid` is no text, or no key id of ours.
    #[error("kid is not a key id")]
    KeyId,
    /// The payload is no JSON, so not even `sub` can be read.
    #[error("payload is not JSON")]
    Payload,
    /// `sub` is missing or not a canonical UUID.
    #[error("sub is not a canonical UUID")]
    Subject,
    /// No such cluster, or no such key of it, or not for this scope.
    #[error("no key is admitted for this sub, kid and scope")]
    UnknownKey,
    /// Not signed by that key.
    #[error("bad signature")]
    Signature,
    /// Signed, but not a strict JSON object with claims of the right types.
    #[error("claims are not a strict JSON object")]
    Claims,
    /// `iss` is missing or another.
    #[error("iss is not {ISSUER}")]
    Issuer,
    /// `aud` is missing, no text, or another cluster.
    #[error("aud is not this cluster")]
    Audience,
    /// `scope` is missing or another.
    #[error("scope is not the one of this path")]
    Scope,
    /// `exp` is missing or no integer.
    #[error("exp is not an integer")]
    ExpiryType,
    /// `nbf` is missing or no integer.
    #[error("nbf is not an integer")]
    NotBeforeType,
    /// `exp` is before `nbf`.
    #[error("exp is before nbf")]
    Order,
    /// It lives longer than its scope allows.
    #[error("lifetime is above the limit")]
    Lifetime,
    /// `nbf` is in the future.
    #[error("not valid yet")]
    NotYet,
    /// `exp` is in the past.
    #[error("expired")]
    Expired,
    /// It was admitted before, and each may be shown once.
    #[error("shown before")]
    Replayed,
}

impl Verified {
    /// Judges its times, as for a verdict that is kept.
    pub fn is_valid_at(&self, now: Timestamp) -> Result<(), Rejected> {
        in_time(self.claims.nbf, self.claims.exp, now)
    }
}

/// Judges the `Authorization` values of one request. Pure: the clock is in `expected`, the peers are in `keys`.
pub fn verify(values: &[&str], expected: &Expectation<'_>, keys: &dyn KeyLookup) -> Result<Verified, Rejected> {
    let token = bearer(values)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(Rejected::Segments)?;
    let (header, payload) = signed.split_once('.').ok_or(Rejected::Segments)?;
    if payload.contains('.') {
        return Err(Rejected::Segments);
    }
    let header = decode(header)?;
    let payload = decode(payload)?;
    let signature = decode(signature)?;

    let kid = kid_of(&header)?;
    let sub = subject_of(&payload)?;
    let candidates = keys.keys(&sub, kid.as_deref());
    if candidates.is_empty() {
        let _ = PublicKey::unowned().verifies(signed.as_bytes(), &signature);
        return Err(Rejected::UnknownKey);
    }
    let key =
        candidates.into_iter().find(|key| key.verifies(signed.as_bytes(), &signature)).ok_or(Rejected::Signature)?;

    let claims = claims_of(&payload, expected, keys.max_lifetime(&sub, expected.max_lifetime))?;
    Ok(Verified { claims, kid, key })
}

/// The token of the `Authorization` values of one request.
pub fn bearer<'a>(values: &[&'a str]) -> Result<&'a str, Rejected> {
    let value = match values {
        [] => return Err(Rejected::Missing),
        [value] => value,
        _ => return Err(Rejected::SeveralHeaders),
    };
    let token = value.strip_prefix("Bearer ").ok_or(Rejected::Scheme)?;
    if token.len() > MAX_TOKEN { Err(Rejected::TooLong) } else { Ok(token) }
}

/// Unpadded base64url; the engine refuses white space, the other alphabet and bits after the last byte.
fn decode(segment: &str) -> Result<Vec<u8>, Rejected> {
    BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|_| Rejected::Encoding)
}

/// An object whose keys no reader takes for one of `known` in another case, as Go's encoding/json would.
fn strict_object(bytes: &[u8], known: &[&str]) -> Option<Map<String, Value>> {
    let Ok(Value::Object(fields)) = parse_strict(bytes) else { return None };
    // Both ways, since ſ and the Kelvin sign fold to s and k in one of them only.
    let fold = |text: &str| text.to_uppercase().to_lowercase();
    let ambiguous = |key: &String| !known.contains(&key.as_str()) && known.contains(&fold(key).as_str());
    if fields.keys().any(ambiguous) { None } else { Some(fields) }
}

fn kid_of(header: &[u8]) -> Result<Option<String>, Rejected> {
    let header = strict_object(header, &["alg", "kid", "crit", "b64", "jwk", "jku"]).ok_or(Rejected::Header)?;
    match header.get("alg") {
        Some(Value::String(alg)) if alg == "EdDSA" || alg == "Ed25519" => {}
        _ => return Err(Rejected::Algorithm),
    }
    let forbidden =
        |key: &String| matches!(key.as_str(), "crit" | "b64" | "jwk" | "jku") || key.to_lowercase().starts_with("x5");
    if header.keys().any(forbidden) {
        return Err(Rejected::Parameter);
    }
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.parse::<KeyId>().is_ok() => Ok(Some(kid.clone())),
        Some(_) => Err(Rejected::KeyId),
    }
}

/// Who the token says it is from. Not to be believed before the signature is checked.
fn subject_of(payload: &[u8]) -> Result<String, Rejected> {
    #[derive(Deserialize)]
    struct Unverified<'a> {
        #[serde(borrow)]
        sub: Option<Cow<'a, str>>,
    }
    match serde_json::from_slice(payload) {
        Ok(Unverified { sub: Some(sub) }) if sub.parse::<ClusterUuid>().is_ok() => Ok(sub.into_owned()),
        Ok(_) => Err(Rejected::Subject),
        Err(_) => Err(Rejected::Payload),
    }
}

fn claims_of(payload: &[u8], expected: &Expectation<'_>, max_lifetime: Duration) -> Result<Claims, Rejected> {
    let known = ["aud", "exp", "iat", "iss", "jti", "nbf", "scope", "sub"];
    let claims = strict_object(payload, &known).ok_or(Rejected::Claims)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let integer = |name: &str| claims.get(name).and_then(Value::as_i64);

    if text("iss") != Some(ISSUER) {
        return Err(Rejected::Issuer);
    }
    if text("aud") != Some(expected.audience) {
        return Err(Rejected::Audience);
    }
    let sub = text("sub").ok_or(Rejected::Subject)?.to_owned();
    if text("scope") != Some(expected.scope.as_str()) {
        return Err(Rejected::Scope);
    }
    let exp = integer("exp").map(Timestamp::from_seconds).ok_or(Rejected::ExpiryType)?;
    let nbf = integer("nbf").map(Timestamp::from_seconds).ok_or(Rejected::NotBeforeType)?;
    if claims.contains_key("iat") && integer("iat").is_none() || claims.contains_key("jti") && text("jti").is_none() {
        return Err(Rejected::Claims);
    }
    if exp < nbf {
        return Err(Rejected::Order);
    }
    if exp.since(nbf) > max_lifetime {
        return Err(Rejected::Lifetime);
    }
    in_time(nbf, exp, expected.now)?;
    Ok(Claims { aud: expected.audience.to_owned(), exp, iss: ISSUER.to_owned(), nbf, scope: expected.scope, sub })
}

fn in_time(nbf: Timestamp, exp: Timestamp, now: Timestamp) -> Result<(), Rejected> {
    if nbf > now + LEEWAY {
        Err(Rejected::NotYet)
    } else if exp < now - LEEWAY {
        Err(Rejected::Expired)
    } else {
        Ok(())
    }
}
