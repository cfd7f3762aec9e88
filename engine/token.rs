//! Tokens: minting, and the one strict verifier that every server uses.
//!
//! A token is a compact JWS (RFC 7515) with EdDSA over Ed25519 (RFC 8037), as Deckhouse's are. The verifier follows
//! RFC 8725: one algorithm, signature before claims, every claim typed and required, lifetimes capped. It refuses what
//! Deckhouse's accepts by the libraries it uses: JSON serialization, white space, claim names in any case, duplicates.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::json::parse_strict;
use crate::key::{KeyId, PrivateKey, PublicKey};
use crate::name::{ClusterUuid, InvalidName};

/// Issuer of all tokens of this protocol.
pub const ISSUER: &str = "d8-istio";
/// Most bytes of a token.
pub const MAX_TOKEN: usize = 8 * 1024;
/// Seconds that clocks may differ.
pub const LEEWAY: i64 = 60;
/// Lifetime of a token for private metadata that we mint, in seconds.
pub const METADATA_LIFETIME: i64 = 60;
/// Longest lifetime of a token for private metadata that is admitted, in seconds.
pub const MAX_METADATA_LIFETIME: i64 = 600;
/// Longest lifetime of a token for the api-proxy, in seconds.
pub const MAX_API_LIFETIME: i64 = 14 * 86_400;
/// The same for Deckhouse peers, which sign for 366 days.
pub const MAX_DECKHOUSE_API_LIFETIME: i64 = 400 * 86_400;

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
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Api, Self::PrivateFederation, Self::PrivateMulticluster];

    /// The scope as it stands in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::PrivateFederation => "private-federation",
            Self::PrivateMulticluster => "private-multicluster",
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
        let invalid = || InvalidName {
            kind: "scope",
            text: text.to_owned(),
            rule: "`api`, `private-federation` or `private-multicluster`",
        };
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(invalid)
    }
}

/// What a token says. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The callee's UUID.
    pub aud: String,
    /// Not valid from then on.
    pub exp: i64,
    /// [`ISSUER`].
    pub iss: String,
    /// Not valid before.
    pub nbf: i64,
    /// What is asked for.
    pub scope: Scope,
    /// In whose name.
    pub sub: String,
}

/// A minted token. It shows itself only through [`expose`](Token::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Signs claims. Equal arguments give equal bytes. Deckhouse refuses the `Ed25519` of RFC 9864, so `alg` is `EdDSA`.
pub fn mint(key: &PrivateKey, claims: &Claims, kid: Option<&KeyId>) -> Token {
    let header = match kid {
        Some(kid) => format!("{{\"alg\":\"EdDSA\",\"kid\":\"{kid}\"}}"),
        None => "{\"alg\":\"EdDSA\"}".to_owned(),
    };
    let claims = serde_json::to_string(claims).unwrap_or_default();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    Token(Zeroizing::new(format!("{signed}.{signature}")))
}

/// Keys by who signs and by key id.
pub trait KeyLookup {
    /// The keys that `subject` may sign with: the one named `kid`, or its own when the token names none.
    fn keys(&self, subject: &str, kid: Option<&str>) -> Vec<PublicKey>;
}

impl<F: Fn(&str, Option<&str>) -> Vec<PublicKey>> KeyLookup for F {
    fn keys(&self, subject: &str, kid: Option<&str>) -> Vec<PublicKey> {
        self(subject, kid)
    }
}

/// What a server expects of a token.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// The server's own cluster UUID.
    pub audience: &'a str,
    /// What the request needs.
    pub scope: Scope,
    /// Seconds since 1970.
    pub now: i64,
    /// Longest admitted lifetime, in seconds.
    pub max_lifetime: i64,
}

/// A token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it says.
    pub claims: Claims,
    /// The key id it names.
    pub kid: Option<String>,
    /// The key that signed it.
    pub key: PublicKey,
}

/// Why a token was refused: for the audit log alone, never for the caller, who gets one uniform 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Rejected {
    /// No Authorization header, or several.
    #[error("not exactly one Authorization header")]
    Header,
    /// Not `Bearer ` and a token.
    #[error("no bearer token")]
    Scheme,
    /// Over [`MAX_TOKEN`].
    #[error("the token is too long")]
    TooLong,
    /// Not three segments of unpadded base64url.
    #[error("not a compact JWS")]
    Form,
    /// Its header is no JSON object as wanted.
    #[error("the token's header is malformed or has a refused field")]
    JoseHeader,
    /// Another algorithm.
    #[error("the algorithm is not EdDSA")]
    Algorithm,
    /// No key for its subject and key id.
    #[error("no such key")]
    UnknownKey,
    /// The signature is not of that key.
    #[error("the signature does not verify")]
    Signature,
    /// A claim is missing, of another type, or there twice.
    #[error("the claims are malformed")]
    Claims,
    /// Another issuer.
    #[error("another issuer")]
    Issuer,
    /// Meant for another cluster.
    #[error("another audience")]
    Audience,
    /// Asks for something else.
    #[error("another scope")]
    Scope,
    /// Over.
    #[error("expired")]
    Expired,
    /// Not yet.
    #[error("not valid yet")]
    NotYet,
    /// `exp` before `nbf`, or too far behind it.
    #[error("the lifetime is negative or too long")]
    Lifetime,
}

/// A point to verify against when there is no key, so that an unknown subject takes as long as a bad signature.
const DUMMY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=\n-----END PUBLIC KEY-----\n";

/// Verifies the token of a request. `authorization` holds the values of all Authorization headers.
///
/// 1. Size, three segments, strict base64url. 2. Header: `alg` is EdDSA, nothing critical, no key of its own. 3. The key by
///    subject and key id. 4. The signature. 5. Claims: typed, required, each once. 6. Issuer, audience, scope, times.
pub fn verify(authorization: &[&str], expected: &Expectation<'_>, keys: &dyn KeyLookup) -> Result<Verified, Rejected> {
    let [value] = authorization else { return Err(Rejected::Header) };
    let token = value.strip_prefix("Bearer ").ok_or(Rejected::Scheme)?;
    if token.len() > MAX_TOKEN {
        return Err(Rejected::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Rejected::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(Rejected::Form)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejected::Form);
    let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
    let kid = key_id(&header)?;
    let claims = parse_strict(&claims);
    let subject = claims.as_ref().ok().and_then(|claims| claims.get("sub")?.as_str()).unwrap_or_default();
    let known = keys.keys(subject, kid.as_deref());
    if known.is_empty() {
        if let Ok(dummy) = PublicKey::from_pem(DUMMY) {
            let _verdict = dummy.verifies(signed.as_bytes(), &signature);
        }
        return Err(Rejected::UnknownKey);
    }
    let signer = known.into_iter().find(|key| key.verifies(signed.as_bytes(), &signature));
    let key = signer.ok_or(Rejected::Signature)?;
    let claims = typed(claims.ok())?;
    judge(&claims, expected)?;
    Ok(Verified { claims, kid, key })
}

/// The key id of a header, when the header is one we take.
fn key_id(header: &[u8]) -> Result<Option<String>, Rejected> {
    let Ok(Value::Object(header)) = parse_strict(header) else { return Err(Rejected::JoseHeader) };
    let refused = |key: &str| matches!(key, "crit" | "b64" | "jwk" | "jku") || key.starts_with("x5");
    if header.keys().any(|key| refused(key)) {
        return Err(Rejected::JoseHeader);
    }
    match header.get("alg") {
        Some(Value::String(alg)) if alg == "EdDSA" || alg == "Ed25519" => {}
        _ => return Err(Rejected::Algorithm),
    }
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.parse::<KeyId>().is_ok() => Ok(Some(kid.clone())),
        Some(_) => Err(Rejected::JoseHeader),
    }
}

fn typed(claims: Option<Value>) -> Result<Claims, Rejected> {
    let Some(Value::Object(claims)) = claims else { return Err(Rejected::Claims) };
    let text = |claims: &Map<String, Value>, key: &str| match claims.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(Rejected::Claims),
    };
    let time = |key: &str| claims.get(key).and_then(Value::as_i64).filter(|time| *time >= 0).ok_or(Rejected::Claims);
    let sub = text(&claims, "sub")?;
    if sub.parse::<ClusterUuid>().is_err() {
        return Err(Rejected::Claims);
    }
    Ok(Claims {
        aud: text(&claims, "aud")?,
        exp: time("exp")?,
        iss: text(&claims, "iss")?,
        nbf: time("nbf")?,
        scope: text(&claims, "scope")?.parse().map_err(|_| Rejected::Scope)?,
        sub,
    })
}

fn judge(claims: &Claims, expected: &Expectation<'_>) -> Result<(), Rejected> {
    if claims.iss != ISSUER {
        return Err(Rejected::Issuer);
    }
    if claims.aud != expected.audience {
        return Err(Rejected::Audience);
    }
    if claims.scope != expected.scope {
        return Err(Rejected::Scope);
    }
    let lifetime = claims.exp.saturating_sub(claims.nbf);
    if lifetime < 0 || lifetime > expected.max_lifetime {
        return Err(Rejected::Lifetime);
    }
    if claims.exp.saturating_add(LEEWAY) < expected.now {
        return Err(Rejected::Expired);
    }
    if claims.nbf > expected.now.saturating_add(LEEWAY) {
        return Err(Rejected::NotYet);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLEE: &str = "11111111-1111-4111-8111-111111111111";
    const CALLER: &str = "22222222-2222-4222-8222-222222222222";

    fn claims() -> Claims {
        Claims {
            aud: CALLEE.into(),
            exp: 1060,
            iss: ISSUER.into(),
            nbf: 1000,
            scope: Scope::PrivateMulticluster,
            sub: CALLER.into(),
        }
    }

    #[test]
    fn a_minted_token_verifies_and_hides() {
        let key = PrivateKey::generate(&[3; 32]).unwrap();
        let kid = key.public().id();
        let expected = Expectation {
            audience: CALLEE,
            scope: Scope::PrivateMulticluster,
            now: 1001,
            max_lifetime: MAX_METADATA_LIFETIME,
        };
        let public = key.public().clone();
        let keys = move |sub: &str, _: Option<&str>| if sub == CALLER { vec![public.clone()] } else { vec![] };
        for kid in [None, Some(&kid)] {
            let token = mint(&key, &claims(), kid);
            let verified = verify(&[&format!("Bearer {}", token.expose())], &expected, &keys).unwrap();
            assert_eq!(verified.claims, claims());
            assert_eq!(verified.kid.as_deref(), kid.map(KeyId::as_str));
            assert_eq!(format!("{token:?}"), "Token([redacted])");
        }
        let stranger = mint(&key, &Claims { sub: CALLEE.into(), ..claims() }, None);
        assert_eq!(verify(&[&format!("Bearer {}", stranger.expose())], &expected, &keys), Err(Rejected::UnknownKey));
        assert!(PublicKey::from_pem(DUMMY).is_ok());
    }
}
