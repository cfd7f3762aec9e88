//! What the verifier costs beside the signature alone: the target is 1.2 times the bare Ed25519 verification of aws-lc-rs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use isthmus::types::key::{PrivateKey, PublicKey};
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, Expectation, ISSUER, Scope, mint, verify};

const AUDIENCE: &str = "0a1b2c3d-0000-4000-8000-00000000ea57";
const SENDER: &str = "0a1b2c3d-0000-4000-8000-000000003e57";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn token(criterion: &mut Criterion) {
    let key = PrivateKey::generate(&[7; 32]).unwrap();
    let scope = Scope::PrivateMulticluster;
    let claims = Claims {
        aud: AUDIENCE.to_owned(),
        exp: NOW + std::time::Duration::from_mins(1),
        iss: ISSUER.to_owned(),
        nbf: NOW,
        scope,
        sub: SENDER.to_owned(),
    };
    let id = key.public().id();
    let header = format!("Bearer {}", mint(&key, &claims, Some(&id)).expose());
    let expected = Expectation { audience: AUDIENCE, scope, now: NOW, max_lifetime: scope.max_lifetime() };
    let public = key.public().clone();
    let keys =
        |sub: &str, _: Option<&str>| -> Vec<PublicKey> { if sub == SENDER { vec![public.clone()] } else { vec![] } };
    let whole = || verify(black_box(&[header.as_str()]), &expected, &keys).unwrap();

    // The fastest form of the bare operation: the key is parsed once, the signature is decoded.
    let (signed, signature) = header.strip_prefix("Bearer ").unwrap().rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let parsed = ParsedPublicKey::new(&ED25519, key.public().spki()).unwrap();
    let bare = || parsed.verify_sig(black_box(signed.as_bytes()), black_box(&signature)).unwrap();

    let mut group = criterion.benchmark_group("token");
    group.bench_function("verify", |bencher| bencher.iter(whole));
    group.bench_function("bare ed25519 verify", |bencher| bencher.iter(bare));
    group.bench_function("mint", |bencher| bencher.iter(|| mint(&key, black_box(&claims), Some(&id))));
    group.finish();

    let (whole, bare) = side_by_side(|| drop(black_box(whole())), bare);
    let ratio = whole.as_secs_f64() / bare.as_secs_f64();
    println!("token verify {whole:?}, bare Ed25519 verify {bare:?}: {ratio:.3} times (target 1.2)");
}

/// Medians of both, measured alternately, so that a busy machine weighs on both alike.
fn side_by_side(whole: impl Fn(), bare: impl Fn()) -> (Duration, Duration) {
    const ROUNDS: usize = 301;
    const EACH: u32 = 50;
    let time = |work: &dyn Fn()| {
        let start = Instant::now();
        for _ in 0..EACH {
            work();
        }
        start.elapsed() / EACH
    };
    let (mut wholes, mut bares): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (time(&whole), time(&bare))).unzip();
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times.get(ROUNDS / 2).copied().unwrap_or_default()
    };
    (median(&mut wholes), median(&mut bares))
}

criterion_group!(benches, token);
criterion_main!(benches);
