//! Good and bad tokens, each with what a server has to say of it.
//!
//! A case is a text of `Authorization`, made from a good token by one change. What is refused is what two readers could take in
//! two ways, or what says less than a token has to (RFC 8725; RFC 7515, RFC 7519, RFC 8037).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::types::key::PrivateKey;
use crate::types::name::ClusterUuid;
use crate::types::time::Timestamp;
use crate::types::token::{ISSUER, Scope};

const DECKHOUSE: &str = "Deckhouse go_lib/jwt/gen.go, modules/110-istio";
const RFC_8725: &str = "RFC 8725 (JSON Web Token Best Current Practices)";
const RFC_7515: &str = "RFC 7515 (JSON Web Signature)";
const RFC_7519: &str = "RFC 7519 (JSON Web Token)";
const RFC_6750: &str = "RFC 6750 (Bearer Token Usage)";
const RFC_7516: &str = "RFC 7516 (JSON Web Encryption), 9";
const RFC_7797: &str = "RFC 7797 (JWS Unencoded Payload Option)";
const RFC_8032: &str = "RFC 8032 (EdDSA), 5.1.7";
const RFC_8259: &str = "RFC 8259 (JSON)";
const RFC_4648: &str = "RFC 4648 (Base 64), 3.5";
const ENGINE: &str = "engine/types/token.rs";
/// The order of the group of Ed25519, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A cluster that the server admits, and the server.
#[derive(Debug, Clone, Copy)]
pub struct TokenOrigin<'a> {
    /// Private key of a cluster that the server knows.
    pub key: &'a PrivateKey,
    pub subject: &'a ClusterUuid,
    /// UUID of the server's cluster.
    pub audience: &'a ClusterUuid,
    pub now: Timestamp,
    /// Unlike in any other set of cases: a server may take each token once.
    pub number: usize,
}

/// A case: a name, what is particular of it, where the rule is from, and the values of `Authorization`.
#[derive(Debug, Clone)]
pub struct TokenCase {
    /// Name of the rule without `token-`.
    pub name: String,
    pub about: &'static str,
    pub source: &'static str,
    /// Whether it has to open the document.
    pub is_good: bool,
    /// Whether Deckhouse's own server is known to say otherwise.
    pub differs_in_deckhouse: bool,
    pub values: Vec<String>,
}

/// What makes a token: each part as it is written.
#[derive(Clone)]
struct TokenParts {
    header: String,
    claims: Vec<(&'static str, String)>,
}

/// A claim, its name in the case, its value as JSON, and whether Deckhouse admits it.
type ClaimCase = (&'static str, &'static str, &'static str, bool);

impl TokenOrigin<'_> {
    /// A good token, unlike any other by its `jti`.
    fn good(&self, scope: Scope, number: usize) -> TokenParts {
        let text = |text: &str| format!("\"{text}\"");
        TokenParts {
            header: r#"{"alg":"EdDSA"}"#.to_owned(),
            claims: vec![
                ("aud", text(self.audience.as_str())),
                ("exp", (self.now.as_seconds() + 50).to_string()),
                ("iss", text(ISSUER)),
                ("jti", text(&format!("{}-{number}-{}", self.number, self.now.as_seconds()))),
                ("nbf", (self.now.as_seconds() - 5).to_string()),
                ("scope", text(scope.as_str())),
                ("sub", text(self.subject.as_str())),
            ],
        }
    }

    /// `Authorization` with a good token that ends so many seconds from now.
    pub(super) fn ending_in(&self, scope: Scope, seconds: i64) -> String {
        // cases are numbered from 0
        let mut parts = self.good(scope, usize::MAX);
        let end = (self.now.as_seconds() + seconds).to_string();
        parts.claims.iter_mut().filter(|(name, _)| *name == "exp").for_each(|(_, value)| value.clone_from(&end));
        format!("Bearer {}", self.signed(&parts))
    }

    fn signed(&self, parts: &TokenParts) -> String {
        self.signed_over(&parts.header, &parts.payload())
    }

    fn signed_over(&self, header: &str, payload: &str) -> String {
        let text = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    /// All cases for a scope.
    pub fn cases(&self, scope: Scope) -> Vec<TokenCase> {
        let mut cases = Vec::new();
        self.admitted(scope, &mut cases);
        self.headers(scope, &mut cases);
        self.claims(scope, &mut cases);
        self.structure(scope, &mut cases);
        self.signatures(scope, &mut cases);
        self.authorization(scope, &mut cases);
        cases
    }

    fn admitted(&self, scope: Scope, cases: &mut Vec<TokenCase>) {
        let mut admit = |name: &str, about, header: &str, without: &[&str], more: &[(&'static str, String)]| {
            let mut parts = self.good(scope, cases.len());
            header.clone_into(&mut parts.header);
            parts.claims.retain(|(name, _)| !without.contains(name));
            parts.claims.extend(more.iter().cloned());
            let values = vec![format!("Bearer {}", self.signed(&parts))];
            let name = name.to_owned();
            cases.push(TokenCase {
                name,
                about,
                source: DECKHOUSE,
                is_good: true,
                differs_in_deckhouse: false,
                values,
            });
        };
        let plain = r#"{"alg":"EdDSA"}"#;
        admit("good", "a token as Deckhouse makes it is admitted", plain, &["jti"], &[]);
        admit("unique", "`jti` does no harm", plain, &[], &[]);
        admit("typed", "`typ` does no harm", r#"{"alg":"EdDSA","typ":"JWT"}"#, &[], &[]);
        let issued = ("iat", self.now.as_seconds().to_string());
        admit("issued", "`iat` does no harm", plain, &[], &[issued]);
        let kid = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.key.public().id());
        admit("key-id", "the ID of the key does no harm", &kid, &[], &[]);
    }

    fn headers(&self, scope: Scope, cases: &mut Vec<TokenCase>) {
        for (name, header) in [
            ("alg-none", r#"{"alg":"none"}"#),
            ("alg-empty", r#"{"alg":""}"#),
            ("alg-missing", "{}"),
            ("alg-hs256", r#"{"alg":"HS256"}"#),
            ("alg-rs256", r#"{"alg":"RS256"}"#),
            ("alg-es256", r#"{"alg":"ES256"}"#),
            ("alg-lower-case", r#"{"alg":"eddsa"}"#),
            ("alg-list", r#"{"alg":["EdDSA"]}"#),
            ("alg-null", r#"{"alg":null}"#),
            ("alg-number", r#"{"alg":1}"#),
            ("alg-ed448", r#"{"alg":"Ed448"}"#),
            ("alg-space-behind", r#"{"alg":"EdDSA "}"#),
            ("header-list", r#"["EdDSA"]"#),
            ("header-text", r#""EdDSA""#),
            ("header-broken", r#"{"alg":"EdDSA""#),
            ("crit", r#"{"alg":"EdDSA","crit":["later"],"later":1}"#),
        ] {
            let parts = TokenParts { header: header.to_owned(), ..self.good(scope, cases.len()) };
            let about = "a header of another algorithm, or none that is understood, is refused";
            cases.push(refused(name, about, RFC_8725, false, &self.signed(&parts)));
        }
        for (name, header, about, source) in [
            ("header-null", "null", "a header that is no object is refused", RFC_7515),
            ("header-behind", r#"{"alg":"EdDSA"}{}"#, "a header with anything behind its object is refused", RFC_8259),
            ("crit-empty", r#"{"alg":"EdDSA","crit":[]}"#, "`crit` is never an empty list", RFC_7515),
            (
                "b64-false",
                r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
                "a payload that is not encoded is none of a token",
                RFC_7797,
            ),
        ] {
            let parts = TokenParts { header: header.to_owned(), ..self.good(scope, cases.len()) };
            cases.push(refused(name, about, source, false, &self.signed(&parts)));
        }
        for (name, header) in [
            ("jwk", r#"{"alg":"EdDSA","jwk":{"kty":"OKP"}}"#),
            ("jku", r#"{"alg":"EdDSA","jku":"https://example.com/"}"#),
            ("x5u", r#"{"alg":"EdDSA","x5u":"https://example.com/"}"#),
            ("x5c", r#"{"alg":"EdDSA","x5c":["MA=="]}"#),
            ("alg-twice", r#"{"alg":"none","alg":"EdDSA"}"#),
            ("alg-upper-case", r#"{"alg":"EdDSA","ALG":"none"}"#),
            ("key-id-number", r#"{"alg":"EdDSA","kid":1}"#),
            ("key-id-unknown", r#"{"alg":"EdDSA","kid":"no-such-key"}"#),
            ("key-id-list", r#"{"alg":"EdDSA","kid":["one"]}"#),
        ] {
            let parts = TokenParts { header: header.to_owned(), ..self.good(scope, cases.len()) };
            let about = "a header that brings its own key, or that two readers take in two ways, is refused";
            cases.push(refused(name, about, RFC_7515, true, &self.signed(&parts)));
        }
    }

    fn claims(&self, scope: Scope, cases: &mut Vec<TokenCase>) {
        const VALUES: &[ClaimCase] = &[
            ("aud", "another", "\"00000000-0000-4000-8000-000000000000\"", false),
            ("aud", "empty", "\"\"", false),
            ("aud", "null", "null", false),
            ("aud", "number", "1", false),
            ("scope", "empty", "\"\"", false),
            ("scope", "unknown", "\"everything\"", false),
            ("scope", "several", "\"api private-multicluster\"", false),
            ("scope", "list", "[\"api\",\"private-multicluster\"]", false),
            ("scope", "null", "null", false),
            ("exp", "text", "\"4102444800\"", false),
            ("exp", "fraction", "4102444800.0", false),
            ("exp", "negative", "-1", false),
            ("exp", "zero", "0", false),
            ("exp", "null", "null", false),
            ("exp", "flag", "true", false),
            ("exp", "exponent", "41024448e2", false),
            ("exp", "above-64-bits", "99999999999999999999", false),
            ("exp", "far", "4102444800", true),
            ("nbf", "text", "\"0\"", true),
            ("nbf", "future", "4102444000", true),
            ("nbf", "ancient", "0", true),
            ("sub", "unknown", "\"00000000-0000-4000-8000-000000000001\"", false),
            ("sub", "empty", "\"\"", false),
            ("sub", "null", "null", false),
            ("sub", "number", "1", false),
            ("iss", "another", "\"someone\"", true),
            ("iss", "empty", "\"\"", true),
            ("nbf", "null", "null", true),
            ("iss", "null", "null", true),
        ];
        const NAMES: [(&str, bool); 6] =
            [("aud", false), ("exp", false), ("iss", true), ("nbf", true), ("scope", false), ("sub", false)];
        let (aud, sub) = (self.audience.as_str(), self.subject.as_str());
        for (claim, how, value, about) in [
            ("aud", "list", format!("[\"{aud}\"]"), "`aud` is one text, since Deckhouse reads no list"),
            ("aud", "upper-case", format!("\"{}\"", aud.to_uppercase()), "`aud` is compared byte for byte"),
            ("aud", "space-behind", format!("\"{aud} \""), "`aud` is compared byte for byte"),
            ("sub", "list", format!("[\"{sub}\"]"), "`sub` is one text"),
            ("sub", "upper-case", format!("\"{}\"", sub.to_uppercase()), "`sub` is compared byte for byte"),
            ("sub", "server", format!("\"{aud}\""), "no peer signs for the server's own cluster"),
            (
                "scope",
                "upper-case",
                format!("\"{}\"", scope.as_str().to_uppercase()),
                "`scope` is compared byte for byte",
            ),
        ] {
            let mut parts = self.good(scope, cases.len());
            parts.set(claim, &value);
            cases.push(refused(&format!("{claim}-{how}"), about, DECKHOUSE, false, &self.signed(&parts)));
        }
        for (claim, how, value, differs) in VALUES {
            let mut parts = self.good(scope, cases.len());
            parts.set(claim, value);
            let about = "a claim with another value than it has to have is refused";
            cases.push(refused(&format!("{claim}-{how}"), about, RFC_7519, *differs, &self.signed(&parts)));
        }
        for (claim, differs) in NAMES {
            let mut parts = self.good(scope, cases.len());
            parts.claims.retain(|(name, _)| *name != claim);
            let name = format!("{claim}-missing");
            cases.push(refused(
                &name,
                "a token without one of its claims is refused",
                RFC_7519,
                differs,
                &self.signed(&parts),
            ));
            let mut parts = self.good(scope, cases.len());
            parts.claims.insert(0, (claim, "\"other\"".to_owned()));
            let name = format!("{claim}-twice");
            cases.push(refused(&name, "a claim twice is refused", RFC_8725, true, &self.signed(&parts)));
            let parts = self.good(scope, cases.len());
            let [own, upper] = [claim.to_owned(), claim.to_uppercase()].map(|name| format!("\"{name}\":"));
            let token = self.signed_over(&parts.header, &parts.payload().replace(&own, &upper));
            let name = format!("{claim}-name-upper-case");
            cases.push(refused(&name, "names of claims are compared byte for byte", RFC_7519, true, &token));
        }
        for other in Scope::ALL.into_iter().filter(|other| *other != scope) {
            let parts = self.good(other, cases.len());
            let name = format!("scope-{other}");
            cases.push(refused(&name, "a token of another scope is refused", DECKHOUSE, false, &self.signed(&parts)));
        }
        let mut expired = self.good(scope, cases.len());
        expired.set("nbf", &(self.now.as_seconds() - 1000).to_string());
        expired.set("exp", &(self.now.as_seconds() - 900).to_string());
        cases.push(refused(
            "exp-past",
            "a token that has expired is refused",
            DECKHOUSE,
            false,
            &self.signed(&expired),
        ));
    }

    fn structure(&self, scope: Scope, cases: &mut Vec<TokenCase>) {
        let about = "what is no compact serialization, byte for byte, is refused";
        let token = || {
            let token = self.signed(&self.good(scope, cases.len()));
            let (signed, signature) =
                token.rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
            (token, signed, signature)
        };
        let mut all: Vec<(&str, bool, String)> = Vec::new();
        let (whole, signed, signature) = token();
        all.push(("empty", false, String::new()));
        all.push(("two-segments", false, signed.clone()));
        all.push(("four-segments", false, format!("{whole}.{signature}")));
        all.push(("no-signature", false, format!("{signed}.")));
        all.push(("short-signature", false, format!("{signed}.{}", signature.get(..20).unwrap_or_default())));
        all.push(("padded", false, format!("{whole}==")));
        all.push(("dot-behind", false, format!("{whole}.")));
        all.push(("not-base64", false, format!("{signed}.!!!!")));
        all.push(("signature-zero", false, format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 64]))));
        let other = [self.key.sign(b"another text"), vec![255; 64]];
        for (name, bytes) in ["signature-of-another", "signature-of-ones"].into_iter().zip(other) {
            all.push((name, false, format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))));
        }
        let standard = BASE64_STANDARD.encode(r#"{"alg":"EdDSA","a":"??>>"}"#);
        all.push((
            "other-alphabet",
            false,
            format!("{standard}.{}.{signature}", signed.split('.').nth(1).unwrap_or_default()),
        ));
        let (head, payload) = signed.split_once('.').unwrap_or_default();
        all.push((
            "json-serialization",
            true,
            format!(r#"{{"protected":"{head}","payload":"{payload}","signature":"{signature}"}}"#),
        ));
        all.push(("space-inside", true, whole.replacen('.', ". ", 1)));
        all.push(("payload-list", false, self.signed_over(r#"{"alg":"EdDSA"}"#, "[]")));
        all.push(("payload-empty", false, self.signed_over(r#"{"alg":"EdDSA"}"#, "")));
        all.push(("payload-broken", false, self.signed_over(r#"{"alg":"EdDSA"}"#, "{\"aud\":")));
        all.push(("long", false, "a".repeat(9000)));
        for (name, differs, token) in all {
            cases.push(refused(name, about, RFC_7515, differs, &token));
        }
    }

    /// Signatures that are not by the peer's key over these very bytes.
    fn signatures(&self, scope: Scope, cases: &mut Vec<TokenCase>) {
        let good = self.good(scope, cases.len());
        let token = self.signed(&good);
        let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
        let (header, payload) = signed.split_once('.').unwrap_or_default();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let with = |bytes: &[u8]| format!("{signed}.{}", encoded(bytes));
        let mut all: Vec<(&str, &'static str, &'static str, bool, String)> = Vec::new();
        if let Ok(other) = PrivateKey::generate(&[0xa5; 32]) {
            let by_another = with(&other.sign(signed.as_bytes()));
            all.push(("signed-by-another", "a key that is not the peer's opens nothing", RFC_7515, false, by_another));
        }
        let none = format!("{}.{payload}.", encoded(br#"{"alg":"none"}"#));
        all.push(("alg-none-unsigned", "a token without a signature is refused", RFC_8725, false, none));
        let confused = format!("{}.{payload}", encoded(br#"{"alg":"HS256"}"#));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.key.public().to_pem().as_bytes());
        let tag = encoded(hmac::sign(&secret, confused.as_bytes()).as_ref());
        let about = "a public key is no secret of HMAC";
        all.push(("alg-hs256-of-public-key", about, RFC_8725, false, format!("{confused}.{tag}")));
        let mut later = good.clone();
        later.set("exp", &(self.now.as_seconds() + 55).to_string());
        let changed = format!("{header}.{}.{signature}", encoded(later.payload().as_bytes()));
        all.push((
            "payload-changed",
            "claims that were changed after they were signed are refused",
            RFC_7515,
            false,
            changed,
        ));
        let changed = format!("{}.{payload}.{signature}", encoded(br#"{"alg":"EdDSA","typ":"JWT"}"#));
        all.push((
            "header-changed",
            "a header that was changed after it was signed is refused",
            RFC_7515,
            false,
            changed,
        ));
        all.push(("swapped", "the header comes first", RFC_7515, false, format!("{payload}.{header}.{signature}")));
        all.push((
            "header-missing",
            "a token without a header is refused",
            RFC_7515,
            false,
            format!(".{payload}.{signature}"),
        ));
        let about = "a signature has 64 bytes";
        all.push(("signature-of-63-bytes", about, RFC_8032, false, with(bytes.get(..63).unwrap_or_default())));
        all.push(("signature-of-65-bytes", about, RFC_8032, false, with(&[&bytes[..], &[0]].concat())));
        let about = "the same signature in another form, its scalar above the order of the group, is refused";
        all.push(("signature-malleable", about, RFC_8032, false, with(&above_order(&bytes))));
        let about = "bits behind the last byte are zero, so that a token has one form";
        all.push(("signature-loose-bits", about, RFC_4648, true, format!("{signed}.{}", with_loose_bits(signature))));
        let five = format!("{header}.{payload}.{signature}.{payload}.{signature}");
        all.push(("five-segments", "an encrypted token is none", RFC_7516, false, five));
        let over = |payload: &str| self.signed_over(&good.header, payload);
        all.push(("payload-null", "claims that are no object are refused", RFC_7519, false, over("null")));
        all.push(("payload-text", "claims that are no object are refused", RFC_7519, false, over("\"aud\"")));
        let behind = over(&format!("{}{{}}", good.payload()));
        all.push(("payload-behind", "claims with anything behind their object are refused", RFC_8259, false, behind));
        for (name, about, source, differs, token) in all {
            cases.push(refused(name, about, source, differs, &token));
        }
    }

    fn authorization(&self, scope: Scope, cases: &mut Vec<TokenCase>) {
        let about = "an Authorization that is not `Bearer ` and one token is refused";
        for (name, begin, end) in [
            ("scheme-lower-case", "bearer ", ""),
            ("scheme-upper-case", "BEARER ", ""),
            ("scheme-missing", "", ""),
            ("scheme-other", "Token ", ""),
            ("scheme-basic", "Basic ", ""),
            ("two-spaces", "Bearer  ", ""),
            ("tab", "Bearer\t", ""),
            ("quoted", "Bearer \"", "\""),
            ("comma", "Bearer ", ",x"),
            ("parameter", "Bearer token=", ""),
        ] {
            let token = self.signed(&self.good(scope, cases.len()));
            let case = refused(name, about, RFC_6750, false, "");
            cases.push(TokenCase { values: vec![format!("{begin}{token}{end}")], ..case });
        }
        let [one, other] = [0, 1].map(|more| self.signed(&self.good(scope, cases.len() + more)));
        cases.push(refused(
            "two-tokens",
            "two tokens in one value are refused",
            RFC_6750,
            false,
            &format!("{one} {other}"),
        ));
        let two = [0, 1].map(|more| format!("Bearer {}", self.signed(&self.good(scope, cases.len() + more))));
        let case = refused("two-headers", "two values of Authorization are refused", ENGINE, true, "");
        cases.push(TokenCase { values: two.to_vec(), ..case });
        let case = refused("none", "a request without a token is refused", DECKHOUSE, false, "");
        cases.push(TokenCase { values: Vec::new(), ..case });
    }
}

impl TokenParts {
    fn set(&mut self, claim: &str, value: &str) {
        for (_, current) in self.claims.iter_mut().filter(|(name, _)| *name == claim) {
            value.clone_into(current);
        }
    }

    fn payload(&self) -> String {
        let claims: Vec<String> = self.claims.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", claims.join(","))
    }
}

/// A signature with the order of the group added to its scalar: the same to whoever does not compare.
fn above_order(signature: &[u8]) -> Vec<u8> {
    let (point, scalar) = signature.split_at_checked(32).unwrap_or((signature, &[]));
    let mut sum = point.to_vec();
    let mut carry = 0;
    for (one, other) in scalar.iter().zip(ORDER) {
        let [low, high] = (u16::from(*one) + u16::from(other) + carry).to_le_bytes();
        sum.push(low);
        carry = u16::from(high);
    }
    sum
}

/// A signature's text with other bits behind its last byte.
fn with_loose_bits(signature: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let Some(last) = signature.chars().last() else { return String::new() };
    // 64 bytes leave four such bits, which are zero
    let next = ALPHABET.chars().skip_while(|one| *one != last).nth(1).unwrap_or('B');
    format!("{}{next}", signature.strip_suffix(last).unwrap_or_default())
}

fn refused(
    name: &str,
    about: &'static str,
    source: &'static str,
    differs_in_deckhouse: bool,
    token: &str,
) -> TokenCase {
    let values = vec![format!("Bearer {token}")];
    TokenCase { name: name.to_owned(), about, source, is_good: false, differs_in_deckhouse, values }
}
