//! A bundle whose signature fits is one that was signed: of any other text, and of any edit of a good one, nothing is opened.

#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use isthmus::types::key::PrivateKey;
use isthmus::wire::bundle::{PAYLOAD_TYPE, Sealed};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(&[7; 32]).unwrap_or_else(|error| panic!("{error}")));

fuzz_target!(|input: &[u8]| {
    if let Ok(sealed) = Sealed::read(input) {
        drop(sealed.open());
    }
    // with a good signature, so that what is inside is looked at
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), input.len());
    let encoded = [head.as_bytes(), input].concat();
    let envelope = json!({
        "payloadType": PAYLOAD_TYPE,
        "payload": BASE64.encode(input),
        "signatures": [{ "keyid": "own", "sig": BASE64.encode(KEY.sign(&encoded)), "publicKey": KEY.public().to_pem() }],
    });
    let sealed = Sealed::read(envelope.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    drop(sealed.open());
});
