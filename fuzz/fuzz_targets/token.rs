//! No text opens anything but the tokens that were signed, byte for byte.
//!
//! The input is shown as it is, and as edits of a good token: four bytes for each.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use isthmus::types::key::PrivateKey;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, Expectation, ISSUER, Scope, mint, verify};
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const OWN: &str = "00000000-0000-4000-8000-000000000001";
const PEER: &str = "00000000-0000-4000-8000-00000000000b";

static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(&[7; 32]).unwrap_or_else(|error| panic!("{error}")));
static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let claims = Claims {
        aud: OWN.to_owned(),
        exp: NOW + Duration::from_secs(1200),
        iss: ISSUER.to_owned(),
        nbf: NOW - Duration::from_secs(5),
        scope: Scope::Api,
        sub: PEER.to_owned(),
    };
    mint(&KEY, &claims, None).expose().to_owned()
});

fuzz_target!(|input: &[u8]| {
    shown(&String::from_utf8_lossy(input));
    let mut edited = TOKEN.clone().into_bytes();
    for edit in input.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (edited.len() + 1);
        match edit[2] % 3 {
            0 => edited.insert(at, edit[3]),
            1 if at < edited.len() => drop(edited.remove(at)),
            _ if at < edited.len() => edited[at] = edit[3],
            _ => {}
        }
    }
    shown(&String::from_utf8_lossy(&edited));
});

fn shown(token: &str) {
    let keys = |subject: &str, kid: Option<&str>| {
        if subject == PEER && kid.is_none() { vec![KEY.public().clone()] } else { Vec::new() }
    };
    let expected = Expectation { audience: OWN, scope: Scope::Api, now: NOW, max_lifetime: Duration::from_secs(3600) };
    let value = format!("Bearer {token}");
    let verdict = verify(&[&value], &expected, &keys);
    assert_eq!(verdict.is_ok(), token == *TOKEN, "{token}");
}
