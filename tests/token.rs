//! The verifier against a table of tokens, and against mutations of a good one.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use isthmus::types::key::{KeyError, KeyId, PrivateKey, PublicKey};
use isthmus::types::time::Timestamp;
use isthmus::types::token::{
    Claims, Expectation, ISSUER, KeyLookup, MAX_API_LIFETIME, MAX_DECKHOUSE_API_LIFETIME, MAX_METADATA_LIFETIME,
    MAX_TOKEN, Rejected, Scope, Verified, mint, mint_unique, verify,
};
use proptest::prelude::*;

const EAST: &str = "0a1b2c3d-0000-4000-8000-00000000ea57";
const WEST: &str = "0a1b2c3d-0000-4000-8000-000000003e57";
const NORTH: &str = "0a1b2c3d-0000-4000-8000-00000000a0a0";
const STRANGER: &str = "0a1b2c3d-0000-4000-8000-00000000dead";
const NOW: i64 = 1_800_000_000;

fn kid(text: &str) -> KeyId {
    text.parse().unwrap()
}

/// East is asked. West may ask for everything with its own key; `ci`, the engine's key, in east's name and for metadata
/// only; north, a Deckhouse peer, has a key of its own.
struct TokenPeers {
    west: PrivateKey,
    north: PrivateKey,
    engine: PrivateKey,
    asked: Scope,
}

impl TokenPeers {
    fn new(asked: Scope) -> Self {
        let key = |seed| PrivateKey::generate(&[seed; 32]).unwrap();
        Self { west: key(1), north: key(2), engine: key(3), asked }
    }
}

impl KeyLookup for TokenPeers {
    fn keys(&self, subject: &str, kid: Option<&str>) -> Vec<PublicKey> {
        let own = |key: &PrivateKey| match kid {
            Some(id) if id != key.public().id().as_str() => vec![],
            _ => vec![key.public().clone()],
        };
        match (subject, kid) {
            (WEST, _) => own(&self.west),
            (NORTH, _) => own(&self.north),
            (EAST, Some("ci")) if self.asked == Scope::PrivateMulticluster => vec![self.engine.public().clone()],
            _ => vec![],
        }
    }

    fn max_lifetime(&self, subject: &str, usual: Duration) -> Duration {
        if self.asked == Scope::Api && subject == NORTH { MAX_DECKHOUSE_API_LIFETIME } else { usual }
    }
}

fn judge(scope: Scope, values: &[&str]) -> Result<Verified, Rejected> {
    let expected =
        Expectation { audience: EAST, scope, now: Timestamp::from_seconds(NOW), max_lifetime: scope.max_lifetime() };
    verify(values, &expected, &TokenPeers::new(scope))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap()
}

fn claims_for(sub: &str, scope: Scope, nbf: i64, exp: i64) -> Claims {
    let [nbf, exp] = [nbf, exp].map(Timestamp::from_seconds);
    Claims { aud: EAST.to_owned(), exp, iss: ISSUER.to_owned(), nbf, scope, sub: sub.to_owned() }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs whatever it is given, however wrong.
fn forge(key: &PrivateKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

const HEADER: &str = r#"{"alg":"EdDSA"}"#;

/// The members of a good payload, as JSON text, so that rows can replace any.
fn members() -> Vec<(&'static str, String)> {
    vec![
        ("aud", format!("{EAST:?}")),
        ("exp", (NOW + 60).to_string()),
        ("iss", r#""d8-istio""#.to_owned()),
        ("nbf", NOW.to_string()),
        ("scope", r#""private-multicluster""#.to_owned()),
        ("sub", format!("{WEST:?}")),
    ]
}

fn join(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// A good payload with some members replaced; an empty value leaves one out.
fn with(changes: &[(&str, &str)]) -> String {
    let mut members = members();
    for (name, value) in changes {
        members.retain(|(known, _)| known != name);
        if !value.is_empty() {
            members.push((*name, (*value).to_owned()));
        }
    }
    join(&members)
}

/// A good payload with text put before its closing brace.
fn plus(text: &str) -> String {
    let good = with(&[]);
    format!("{},{text}}}", good.strip_suffix('}').unwrap())
}

struct Table {
    rows: usize,
    names: BTreeSet<String>,
    failures: Vec<String>,
    sent: Vec<CorpusRow>,
}

/// What is shown in a row of the table: the scope that is asked for, the `Authorization` values, and whether they are admitted.
pub(crate) struct CorpusRow {
    pub(crate) name: String,
    pub(crate) asked: Scope,
    pub(crate) values: Vec<String>,
    pub(crate) is_admitted: bool,
}

/// Whose tokens the corpus has: the cluster that is asked, and the time.
pub(crate) const CORPUS: (&str, i64) = (EAST, NOW);

/// All rows of the table.
pub(crate) fn corpus() -> Vec<CorpusRow> {
    filled().sent
}

/// The peers of the corpus, as a cluster's `peers.json` has them.
pub(crate) fn corpus_peers() -> serde_json::Value {
    let keys = TokenPeers::new(Scope::Api);
    let authn = |key: &PrivateKey, id: &str, scopes: &[&str]| serde_json::json!({ "id": id, "pem": key.public().to_pem(), "scopes": scopes });
    let peer = |name: &str, uuid: &str, key: &PrivateKey| {
        let keys = [authn(key, key.public().id().as_str(), &["api", "private-multicluster"])];
        serde_json::json!({ "name": name, "clusterUUID": uuid, "keys": keys, "namespaces": ["*"] })
    };
    let mut north = peer("north", NORTH, &keys.north);
    north["maxTokenLifetime"] = serde_json::json!(MAX_DECKHOUSE_API_LIFETIME.as_secs());
    serde_json::json!({
        "version": 1,
        "self": { "keys": [authn(&keys.engine, "ci", &["private-multicluster"])] },
        "peers": [peer("west", WEST, &keys.west), north],
    })
}

impl Table {
    fn values(&mut self, name: &str, scope: Scope, values: &[&str], wanted: Result<(), Rejected>) {
        self.rows += 1;
        assert!(self.names.insert(name.to_owned()), "two rows `{name}`");
        let got = judge(scope, values).map(drop);
        let shown = values.iter().map(|value| (*value).to_owned()).collect();
        self.sent.push(CorpusRow { name: name.to_owned(), asked: scope, values: shown, is_admitted: wanted.is_ok() });
        if got != wanted {
            self.failures.push(format!("{name}: wanted {wanted:?}, got {got:?}"));
        }
    }

    fn token(&mut self, name: &str, token: &str, wanted: Result<(), Rejected>) {
        self.values(name, Scope::PrivateMulticluster, &[&format!("Bearer {token}")], wanted);
    }
}

fn filled() -> Table {
    let peers = TokenPeers::new(Scope::PrivateMulticluster);
    let good = forge(&peers.west, HEADER, with(&[]));
    let mut table = Table { rows: 0, names: BTreeSet::new(), failures: vec![], sent: vec![] };
    headers_of_the_request(&mut table, &good);
    shapes(&mut table, &peers, &good);
    headers(&mut table, &peers);
    senders(&mut table, &peers);
    signatures(&mut table, &peers, &good);
    claims(&mut table, &peers);
    times(&mut table, &peers);
    scopes(&mut table, &peers);
    table
}

#[test]
fn each_token_gets_its_verdict() {
    let table = filled();
    assert!(table.failures.is_empty(), "{}", table.failures.join("\n"));
    assert!(table.rows >= 120, "{} rows", table.rows);
}

fn headers_of_the_request(table: &mut Table, good: &str) {
    let scope = Scope::PrivateMulticluster;
    let mut row = |name: &str, values: &[&str], wanted| table.values(name, scope, values, wanted);
    let bearer = format!("Bearer {good}");
    row("good", &[&bearer], Ok(()));
    row("no header, and a token in the query is never looked at", &[], Err(Rejected::Missing));
    row("two equal headers", &[&bearer, &bearer], Err(Rejected::SeveralHeaders));
    row("an empty header after a good one", &[&bearer, ""], Err(Rejected::SeveralHeaders));
    row("empty header", &[""], Err(Rejected::Scheme));
    row("no scheme", &[good], Err(Rejected::Scheme));
    row("bearer in lower case", &[&format!("bearer {good}")], Err(Rejected::Scheme));
    row("BEARER in upper case", &[&format!("BEARER {good}")], Err(Rejected::Scheme));
    row("Basic", &[&format!("Basic {good}")], Err(Rejected::Scheme));
    row("tab for space", &[&format!("Bearer\t{good}")], Err(Rejected::Scheme));
    row("space before", &[&format!(" Bearer {good}")], Err(Rejected::Scheme));
    row("scheme alone", &["Bearer"], Err(Rejected::Scheme));
    row("scheme and a space", &["Bearer "], Err(Rejected::Segments));
    row("two spaces", &[&format!("Bearer  {good}")], Err(Rejected::Encoding));
    row("space after", &[&format!("Bearer {good} ")], Err(Rejected::Encoding));
    row("line feed after", &[&format!("Bearer {good}\n")], Err(Rejected::Encoding));
    row("two joined by a comma", &[&format!("{bearer}, {bearer}")], Err(Rejected::Segments));
    row("quoted", &[&format!("Bearer \"{good}\"")], Err(Rejected::Encoding));
}

fn shapes(table: &mut Table, peers: &TokenPeers, good: &str) {
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let mut row = |name: &str, token: &str, wanted| table.token(name, token, Err(wanted));
    row("one segment", header, Rejected::Segments);
    row("two segments", &format!("{header}.{payload}"), Rejected::Segments);
    row("four segments", &format!("{good}.{signature}"), Rejected::Segments);
    row("a dot after", &format!("{good}."), Rejected::Segments);
    row("a dot before", &format!(".{good}"), Rejected::Segments);
    row("five segments, as an encrypted token", &format!("{header}.{payload}.{signature}.a.b"), Rejected::Segments);
    row("a million segments", &".".repeat(1_000_000), Rejected::TooLong);
    row("as many dots as fit", &".".repeat(MAX_TOKEN), Rejected::Segments);
    row("two dots alone", "..", Rejected::Header);
    row("no header segment", &format!(".{payload}.{signature}"), Rejected::Header);
    row("no payload segment", &format!("{header}..{signature}"), Rejected::Payload);
    row("no signature segment", &format!("{header}.{payload}."), Rejected::Signature);
    row(
        "padded header",
        &format!("{}.{payload}.{signature}", BASE64_URL_SAFE.encode(r#"{"alg":"EdDSA" }"#)),
        Rejected::Encoding,
    );
    row("padded signature", &format!("{good}=="), Rejected::Encoding);
    row("bits after the last byte", &format!("{header}.{payload}.{}B", &signature[..85]), Rejected::Encoding);
    let slashes = BASE64_STANDARD_NO_PAD.encode([0xff; 64]);
    row("the other base64 alphabet", &format!("{header}.{payload}.{slashes}"), Rejected::Encoding);
    row(
        "white space inside the payload",
        &format!("{header}.{} {}.{signature}", &payload[..9], &payload[9..]),
        Rejected::Encoding,
    );
    row(
        "line feed inside the payload",
        &format!("{header}.{}\n{}.{signature}", &payload[..9], &payload[9..]),
        Rejected::Encoding,
    );
    row(
        "NUL inside the header",
        &format!("{}\0{}.{payload}.{signature}", &header[..4], &header[4..]),
        Rejected::Encoding,
    );
    row("letters outside ASCII", &format!("{header}.{payload}é.{signature}"), Rejected::Encoding);
    row(
        "flattened JSON serialization",
        &format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
        Rejected::Segments,
    );
    row("JSON serialization with dots", r#"{"payload":"a.b","signature":"c.d"}"#, Rejected::Encoding);
    row("a PEM", &peers.west.public().to_pem(), Rejected::Segments);

    let signed = |length: usize| {
        let filler = "x".repeat(length);
        forge(&peers.west, HEADER, plus(&format!(r#""jti":"{filler}""#)))
    };
    let limit = (5000..MAX_TOKEN).find(|length| signed(*length).len() > MAX_TOKEN).unwrap();
    assert_eq!(signed(limit - 1).len(), MAX_TOKEN, "the row below stands at the limit");
    row("above 8 KiB", &signed(limit), Rejected::TooLong);
    table.token("8 KiB", &signed(limit - 1), Ok(()));
}

fn headers(table: &mut Table, peers: &TokenPeers) {
    let mut row = |header: &str, wanted: Result<(), Rejected>| {
        table.token(&format!("header {header}"), &forge(&peers.west, header, with(&[])), wanted);
    };
    let own = peers.west.public().id();
    let others = peers.north.public().id();
    for header in [
        r#"{"alg":"Ed25519"}"#,
        r#"{"alg":"EdDSA","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt"}"#,
        r#"{"alg":"EdDSA","typ":null}"#,
        r#"{"alg":"EdDSA","cty":"x","zip":"DEF"}"#,
        r#" { "alg" : "EdDSA" } "#,
        r#"{"alg":"Ed\u0044SA"}"#,
        &format!(r#"{{"alg":"EdDSA","kid":"{own}"}}"#),
    ] {
        row(header, Ok(()));
    }
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"PS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"Ed448"}"#,
        r#"{"alg":"eddsa"}"#,
        r#"{"alg":"EdDSA "}"#,
        r#"{"alg":"EdDSA\u0000"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["EdDSA"]}"#,
        r#"{"alg":1}"#,
        r#"{"typ":"JWT"}"#,
        "{}",
    ] {
        row(header, Err(Rejected::Algorithm));
    }
    for header in [
        r#"{"alg":"EdDSA","crit":["x"]}"#,
        r#"{"alg":"EdDSA","crit":[]}"#,
        r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
        r#"{"alg":"EdDSA","b64":false}"#,
        r#"{"alg":"EdDSA","b64":true}"#,
        r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#,
        r#"{"alg":"EdDSA","jku":"https://example.com/jwks"}"#,
        r#"{"alg":"EdDSA","x5u":"https://example.com/x"}"#,
        r#"{"alg":"EdDSA","x5c":["AA=="]}"#,
        r#"{"alg":"EdDSA","x5t":"AA"}"#,
        r#"{"alg":"EdDSA","x5t#S256":"AA"}"#,
        r#"{"alg":"EdDSA","X5C":["AA=="]}"#,
    ] {
        row(header, Err(Rejected::Parameter));
    }
    for header in [
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        r#"{"alg":"none","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","\u0061lg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":"a","kid":"a"}"#,
        r#"{"alg":"EdDSA","typ":"JWT","typ":"JWT"}"#,
        r#"{"Alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","ALG":"none"}"#,
        r#"{"alg":"EdDSA","Crit":["x"]}"#,
        "{\"alg\":\"EdDSA\",\"\u{212a}id\":\"x\"}",
        r#"{"alg":"EdDSA"}x"#,
        r#"{"alg":"EdDSA"}{}"#,
        r#"{"alg":"EdDSA",}"#,
        r"{'alg':'EdDSA'}",
        r#"["EdDSA"]"#,
        r#""EdDSA""#,
        "null",
        "\u{feff}{\"alg\":\"EdDSA\"}",
    ] {
        row(header, Err(Rejected::Header));
    }
    for kid in [
        r#""../../etc/passwd""#,
        r#""/dev/null""#,
        r#""""#,
        r#""' OR 1=1 --""#,
        r#""a\u0000""#,
        "1",
        "null",
        r#"["a"]"#,
    ] {
        row(&format!(r#"{{"alg":"EdDSA","kid":{kid}}}"#), Err(Rejected::KeyId));
    }
    row(r#"{"alg":"EdDSA","kid":"unknown"}"#, Err(Rejected::UnknownKey));
    row(r#"{"alg":"EdDSA","kid":"ci"}"#, Err(Rejected::UnknownKey));
    row(&format!(r#"{{"alg":"EdDSA","kid":"{others}"}}"#), Err(Rejected::UnknownKey));

    let utf16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    table.token("header in UTF-16", &forge(&peers.west, utf16, with(&[])), Err(Rejected::Header));
    table.token(
        "header that is no UTF-8",
        &forge(&peers.west, b"{\"alg\":\"EdDSA\",\"x\":\"\xff\"}", with(&[])),
        Err(Rejected::Header),
    );
    let deep = format!(r#"{{"alg":"EdDSA","x":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    table.token("header of 129 levels", &forge(&peers.west, deep, with(&[])), Err(Rejected::Header));
}

fn senders(table: &mut Table, peers: &TokenPeers) {
    let mut row = |name: &str, header: &str, payload: &str, key: &PrivateKey, wanted| {
        table.token(name, &forge(key, header, payload), wanted);
    };
    let quoted = |text: &str| format!("\"{text}\"");
    let sub = |text: &str| with(&[("sub", &quoted(text))]);
    row("sub missing", HEADER, &with(&[("sub", "")]), &peers.west, Err(Rejected::Subject));
    row("sub null", HEADER, &with(&[("sub", "null")]), &peers.west, Err(Rejected::Subject));
    row("sub a number", HEADER, &with(&[("sub", "1")]), &peers.west, Err(Rejected::Payload));
    row("sub an array", HEADER, &with(&[("sub", &format!("[\"{WEST}\"]"))]), &peers.west, Err(Rejected::Payload));
    row("sub in upper case", HEADER, &sub(&WEST.to_uppercase()), &peers.west, Err(Rejected::Subject));
    row("sub with a line feed", HEADER, &sub(&format!(r"{WEST}\n")), &peers.west, Err(Rejected::Subject));
    row("sub in braces", HEADER, &sub(&format!("{{{WEST}}}")), &peers.west, Err(Rejected::Subject));
    row("sub without dashes", HEADER, &sub(&WEST.replace('-', "")), &peers.west, Err(Rejected::Subject));
    row("sub empty", HEADER, &sub(""), &peers.west, Err(Rejected::Subject));
    row("sub twice", HEADER, &plus(&format!("\"sub\":\"{WEST}\"")), &peers.west, Err(Rejected::Payload));
    row("sub of a stranger", HEADER, &sub(STRANGER), &peers.west, Err(Rejected::UnknownKey));
    row("sub of another peer", HEADER, &sub(NORTH), &peers.west, Err(Rejected::Signature));
    row("sub in escapes", HEADER, &sub(&WEST.replace('a', r"\u0061")), &peers.west, Ok(()));
    row("our own UUID as sub", HEADER, &sub(EAST), &peers.west, Err(Rejected::UnknownKey));
    row("our own UUID as sub, engine's key", r#"{"alg":"EdDSA","kid":"ci"}"#, &sub(EAST), &peers.engine, Ok(()));
    row("engine's kid, peer's key", r#"{"alg":"EdDSA","kid":"ci"}"#, &sub(EAST), &peers.west, Err(Rejected::Signature));
    row("engine's key without kid", HEADER, &sub(EAST), &peers.engine, Err(Rejected::UnknownKey));
    for (name, payload) in [
        ("payload is HTML", "<html>".to_owned()),
        ("payload is a number", "1".to_owned()),
        ("payload is cut off", with(&[]).trim_end_matches('}').to_owned()),
        ("payload has a second value", format!("{}{{}}", with(&[]))),
        ("payload has a byte order mark", format!("\u{feff}{}", with(&[]))),
    ] {
        row(name, HEADER, &payload, &peers.west, Err(Rejected::Payload));
    }
    row("payload is an array", HEADER, &format!("[\"{WEST}\"]"), &peers.west, Err(Rejected::Claims));
}

fn signatures(table: &mut Table, peers: &TokenPeers, good: &str) {
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut row = |name: &str, signature: &[u8]| {
        table.token(name, &format!("{signed}.{}", encode(signature)), Err(Rejected::Signature));
    };
    row("signature of another message", &peers.west.sign(b"another"));
    row("signature of another peer", &peers.north.sign(signed.as_bytes()));
    row("signature cut by a byte", &bytes[..63]);
    row("signature with a byte more", &[bytes.as_slice(), &[0]].concat());
    row("signature twice", &[bytes.as_slice(), &bytes].concat());
    row("signature of zeros", &[0; 64]);
    let mut identity = [0; 64];
    identity[0] = 1;
    row("signature that every small-order key takes", &identity);
    row("signature with s + L", &malleated(&bytes));
    let pem = peers.west.public().to_pem();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, pem.as_bytes());
    row("HMAC with the public PEM as secret", hmac::sign(&secret, signed.as_bytes()).as_ref());

    let other = forge(&peers.west, HEADER, with(&[("exp", &(NOW + 50).to_string())]));
    let swapped = format!("{signed}.{}", other.rsplit_once('.').unwrap().1);
    table.token("signature of another good token", &swapped, Err(Rejected::Signature));
    let hs256 = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(with(&[])));
    let tag = hmac::sign(&secret, hs256.as_bytes());
    table.token("HS256 with the public PEM as secret", &format!("{hs256}.{}", encode(tag)), Err(Rejected::Algorithm));
    let none = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(with(&[])));
    table.token("alg none without signature", &none, Err(Rejected::Algorithm));
    let reencoded = format!("{}.{}", encode(r#"{"alg":"Ed25519"}"#), signed.split_once('.').unwrap().1);
    table.token(
        "another header over the same signature",
        &format!("{reencoded}.{signature}"),
        Err(Rejected::Signature),
    );
}

/// The same signature with the group order added to s, which RFC 8032 asks verifiers to refuse.
fn malleated(signature: &[u8]) -> Vec<u8> {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut out = signature.to_vec();
    let mut carry = 0;
    for (at, byte) in order.into_iter().enumerate() {
        let sum = u16::from(out[32 + at]) + u16::from(byte) + carry;
        out[32 + at] = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    out
}

fn claims(table: &mut Table, peers: &TokenPeers) {
    let mut row = |name: &str, payload: &str, wanted| table.token(name, &forge(&peers.west, HEADER, payload), wanted);
    let twin = format!("[\"{EAST}\"]");
    let upper = format!("\"{}\"", EAST.to_uppercase());
    let west = format!("\"{WEST}\"");
    for (name, values, wanted) in [
        ("iss", vec!["", "null", "1", r#""""#, r#""D8-istio""#, r#""d8-istio ""#, r#"["d8-istio"]"#], Rejected::Issuer),
        ("aud", vec!["", "null", r#""""#, r#""*""#, twin.as_str(), upper.as_str(), west.as_str()], Rejected::Audience),
        (
            "exp",
            vec![
                "",
                "null",
                r#""1800000060""#,
                "1800000060.0",
                "1.8e9",
                "1e30",
                "9223372036854775808",
                "[1800000060]",
                "true",
            ],
            Rejected::ExpiryType,
        ),
        (
            "nbf",
            vec!["", "null", r#""1800000000""#, "1800000000.0", "-9223372036854775809", "false"],
            Rejected::NotBeforeType,
        ),
        (
            "scope",
            vec![
                "",
                "null",
                r#""""#,
                r#""api""#,
                r#""private-federation""#,
                r#""private-multicluster api""#,
                r#"["private-multicluster"]"#,
                r#""Private-Multicluster""#,
            ],
            Rejected::Scope,
        ),
        ("iat", vec!["null", r#""1""#, "1.5"], Rejected::Claims),
        ("jti", vec!["null", "1", "{}"], Rejected::Claims),
    ] {
        for value in values {
            row(&format!("{name} = {value}"), &with(&[(name, value)]), Err(wanted));
        }
    }
    for (name, text) in [
        ("aud twice", format!("\"aud\":\"{EAST}\"")),
        ("exp twice", format!("\"exp\":{}", NOW + 60)),
        ("iss twice", r#""iss":"d8-istio""#.to_owned()),
        ("an unknown claim twice", r#""x":1,"x":1"#.to_owned()),
        ("a claim twice in escapes", r#""\u0065xp":1"#.to_owned()),
        ("a claim twice, deep down", r#""x":{"y":1,"y":2}"#.to_owned()),
        ("Aud beside aud", format!("\"Aud\":\"{WEST}\"")),
        ("EXP beside exp", r#""EXP":1"#.to_owned()),
        ("long s for s", format!("\"\u{17f}ub\":\"{WEST}\"")),
        ("a lone surrogate", r#""x":"\ud800""#.to_owned()),
        ("129 levels", format!("\"x\":{}{}", "[".repeat(129), "]".repeat(129))),
        ("a number too large for a float", r#""x":1e999"#.to_owned()),
    ] {
        row(name, &plus(&text), Err(Rejected::Claims));
    }
    row("Sub for sub", &with(&[("sub", ""), ("Sub", &west)]), Err(Rejected::Subject));
    row("Scope for scope", &with(&[("scope", ""), ("Scope", r#""private-multicluster""#)]), Err(Rejected::Claims));
    row("iat and jti", &plus(r#""iat":1,"jti":"x""#), Ok(()));
    row("an unknown claim", &plus(r#""azp":["x",{"y":null}]"#), Ok(()));
    row("white space in the payload", &with(&[]).replace(',', " ,\n "), Ok(()));
}

fn times(table: &mut Table, peers: &TokenPeers) {
    let longest = seconds(MAX_METADATA_LIFETIME);
    let mut row = |nbf: i64, exp: i64, wanted| {
        let payload = with(&[("nbf", &nbf.to_string()), ("exp", &exp.to_string())]);
        let name = format!("nbf {:+} exp {:+}", nbf.saturating_sub(NOW), exp.saturating_sub(NOW));
        table.token(&name, &forge(&peers.west, HEADER, payload), wanted);
    };
    row(NOW - 120, NOW - 59, Ok(()));
    row(NOW - 120, NOW - 60, Ok(()));
    row(NOW - 120, NOW - 61, Err(Rejected::Expired));
    row(NOW, NOW, Ok(()));
    row(NOW + 59, NOW + 120, Ok(()));
    row(NOW + 60, NOW + 120, Ok(()));
    row(NOW + 61, NOW + 120, Err(Rejected::NotYet));
    row(NOW + 10, NOW + 9, Err(Rejected::Order));
    row(NOW, NOW + longest - 1, Ok(()));
    row(NOW, NOW + longest, Ok(()));
    row(NOW, NOW + longest + 1, Err(Rejected::Lifetime));
    row(0, 0, Err(Rejected::Expired));
    row(0, NOW + 60, Err(Rejected::Lifetime));
    row(-60, -1, Err(Rejected::Expired));
    row(NOW, -1, Err(Rejected::Order));
    row(i64::MIN, i64::MAX, Err(Rejected::Lifetime));
    row(i64::MAX, i64::MAX, Err(Rejected::NotYet));
    row(i64::MIN, i64::MIN, Err(Rejected::Expired));
}

fn scopes(table: &mut Table, peers: &TokenPeers) {
    let claims = |sub: &str, scope, life| claims_for(sub, scope, NOW, NOW + life);
    let mut row = |name: &str, asked, key: &PrivateKey, claims: &Claims, kid: Option<&KeyId>, wanted| {
        let token = mint(key, claims, kid);
        table.values(name, asked, &[&format!("Bearer {}", token.expose())], wanted);
    };
    let (api, metadata, federation) = (Scope::Api, Scope::PrivateMulticluster, Scope::PrivateFederation);
    let ci = kid("ci");
    let west = peers.west.public().id();
    row("api for api", api, &peers.west, &claims(WEST, api, 2400), None, Ok(()));
    row("api for api with kid", api, &peers.west, &claims(WEST, api, 2400), Some(&west), Ok(()));
    row("api for metadata", metadata, &peers.west, &claims(WEST, api, 60), None, Err(Rejected::Scope));
    row("metadata for api", api, &peers.west, &claims(WEST, metadata, 60), None, Err(Rejected::Scope));
    row("federation for federation", federation, &peers.west, &claims(WEST, federation, 60), None, Ok(()));
    row("federation for api", api, &peers.west, &claims(WEST, federation, 60), None, Err(Rejected::Scope));
    row("engine for metadata", metadata, &peers.engine, &claims(EAST, metadata, 60), Some(&ci), Ok(()));
    row("engine for api", api, &peers.engine, &claims(EAST, api, 60), Some(&ci), Err(Rejected::UnknownKey));
    row("14 days", api, &peers.west, &claims(WEST, api, seconds(MAX_API_LIFETIME)), None, Ok(()));
    row(
        "14 days and a second",
        api,
        &peers.west,
        &claims(WEST, api, seconds(MAX_API_LIFETIME) + 1),
        None,
        Err(Rejected::Lifetime),
    );
    row(
        "366 days of a peer that may not",
        api,
        &peers.west,
        &claims(WEST, api, 366 * 86_400),
        None,
        Err(Rejected::Lifetime),
    );
    row("366 days of a Deckhouse peer", api, &peers.north, &claims(NORTH, api, 366 * 86_400), None, Ok(()));
    let long = claims(NORTH, api, seconds(MAX_DECKHOUSE_API_LIFETIME) + 1);
    row("above 400 days of a Deckhouse peer", api, &peers.north, &long, None, Err(Rejected::Lifetime));
    let elsewhere = Claims { aud: WEST.to_owned(), ..claims(WEST, metadata, 60) };
    row("for another cluster", metadata, &peers.west, &elsewhere, None, Err(Rejected::Audience));
}

#[test]
fn a_minted_token_is_deckhouses_byte_for_byte() {
    let key = PrivateKey::generate(&[1; 32]).unwrap();
    let claims = claims_for(WEST, Scope::PrivateMulticluster, NOW, NOW + 60);
    let read = |token: &str, at: usize| {
        String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
    };
    let plain = mint(&key, &claims, None);
    assert_eq!(read(plain.expose(), 0), r#"{"alg":"EdDSA"}"#);
    assert_eq!(
        read(plain.expose(), 1),
        format!(
            r#"{{"aud":"{EAST}","exp":1800000060,"iss":"d8-istio","nbf":1800000000,"scope":"private-multicluster","sub":"{WEST}"}}"#
        )
    );
    assert_eq!(read(mint(&key, &claims, Some(&kid("ci"))).expose(), 0), r#"{"alg":"EdDSA","kid":"ci"}"#);
    assert_eq!(plain, mint(&key, &claims, None));
    let unique = mint_unique(&key, &claims, None, 7);
    let payload = read(plain.expose(), 1);
    let with_id = format!(r#"{},"jti":"{:032x}"}}"#, payload.trim_end_matches('}'), 7);
    assert_eq!(read(unique.expose(), 1), with_id);
    assert_eq!(format!("{plain:?}"), "Token([redacted])");

    let verified = judge(Scope::PrivateMulticluster, &[&format!("Bearer {}", plain.expose())]).unwrap();
    assert_eq!(verified, Verified { claims, kid: None, key: key.public().clone() });
}

/// RFC 8037, appendix A.4.
#[test]
fn signatures_are_those_of_the_standard() {
    let seed = BASE64_URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let key = PrivateKey::generate(&seed.try_into().unwrap()).unwrap();
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert_eq!(
        encode(key.sign(signed.as_bytes())),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn keys_under_which_forgeries_verify_never_get_in() {
    let good = PrivateKey::generate(&[1; 32]).unwrap();
    let prefix = good.public().spki()[..12].to_vec();
    let mut identity = [0; 32];
    identity[0] = 1;
    // The fixed signature (R = identity, s = 0) verifies under this key for every message.
    let der = [prefix.as_slice(), &identity].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::prelude::BASE64_STANDARD.encode(&der)
    );
    assert_eq!(PublicKey::from_pem(&pem), Err(KeyError::Weak));
    let mut fixed = [0; 64];
    fixed[0] = 1;
    let bare = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, identity);
    assert!(bare.verify(b"any message", &fixed).is_ok(), "else the check at import would be superfluous");
}

#[test]
fn scopes_read_what_they_print() {
    for scope in Scope::ALL {
        assert_eq!(scope.to_string().parse(), Ok(scope));
        assert_eq!(serde_json::to_string(&scope).unwrap(), format!("\"{scope}\""));
    }
    assert!("API".parse::<Scope>().is_err());
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(usize, u8),
    Insert(usize, u8),
    Remove(usize, usize),
    Swap(usize, usize),
    Double(usize, usize),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let byte = prop_oneof![
        8 => proptest::sample::select(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".to_vec()),
        2 => proptest::sample::select(b".=+/ \n\0\x7f".to_vec()),
    ];
    let at = 0..1000_usize;
    proptest::collection::vec(
        prop_oneof![
            (at.clone(), byte.clone()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
            (at.clone(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
            (at.clone(), 1..40_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
            (at.clone(), at.clone()).prop_map(|(a, b)| Mutation::Swap(a, b)),
            (at, 1..40_usize).prop_map(|(at, count)| Mutation::Double(at, count)),
        ],
        1..4,
    )
}

fn mutate(token: &str, mutations: &[Mutation]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for mutation in mutations {
        let length = bytes.len().max(1);
        match *mutation {
            Mutation::Insert(at, byte) => bytes.insert(at % length, byte),
            _ if bytes.is_empty() => {}
            Mutation::Replace(at, byte) => bytes[at % length] = byte,
            Mutation::Swap(a, b) => bytes.swap(a % length, b % length),
            Mutation::Remove(at, count) => {
                let at = at % length;
                bytes.drain(at..(at + count).min(length));
            }
            Mutation::Double(at, count) => {
                let at = at % length;
                let part = bytes[at..(at + count).min(length)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #![proptest_config(crate::support::law::cases(4000))]

    #[test]
    fn no_mutated_token_is_accepted(mutations in mutations(), kid in any::<bool>()) {
        let peers = TokenPeers::new(Scope::PrivateMulticluster);
        let claims = claims_for(WEST, Scope::PrivateMulticluster, NOW, NOW + 60);
        let id = peers.west.public().id();
        let token = mint(&peers.west, &claims, kid.then_some(&id));
        let mutated = mutate(token.expose(), &mutations);
        let verdict = judge(Scope::PrivateMulticluster, &[&format!("Bearer {mutated}")]);
        prop_assert_eq!(verdict.is_ok(), mutated == token.expose(), "{}", mutated);
    }

    #[test]
    fn no_text_is_accepted_or_panics(text in "[ -~]{0,200}", tail in "(\\PC{0,20}\\.){0,4}") {
        prop_assert!(judge(Scope::Api, &[&text]).is_err());
        let bearer = format!("Bearer {tail}{text}");
        prop_assert!(judge(Scope::Api, &[&bearer]).is_err());
    }

    #[test]
    fn what_is_minted_for_a_path_opens_it_while_it_lives(
        age in -200..200_i64, life in 0..400_i64, scope in proptest::sample::select(Scope::ALL.to_vec()),
    ) {
        let peers = TokenPeers::new(Scope::PrivateMulticluster);
        let claims = claims_for(WEST, scope, NOW - age, NOW - age + life);
        let token = mint(&peers.west, &claims, None);
        let lives = age >= -60 && age <= life + 60 && life <= seconds(scope.max_lifetime());
        let verdict = judge(scope, &[&format!("Bearer {}", token.expose())]);
        prop_assert_eq!(verdict.is_ok(), lives, "{:?}", verdict);
    }
}
