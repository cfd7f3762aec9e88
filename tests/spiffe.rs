//! The SPIFFE bundle, read by go-spiffe: what it takes for roots is what was put in.
//!
//! Needs Go, and the Go module proxy once. Without them the test passes, but in CI it fails.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use isthmus::types::certificate::parse_roots_any_time;
use isthmus::wire::spiffe::bundle;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SignatureAlgorithm};
use serde_json::Value;

const EAST: &str = include_str!("../fixtures/real/east/root-cert.pem");
const WEST: &str = include_str!("../fixtures/real/west/root-cert.pem");

/// tests/testbed/spiffe, built; `None` where Go or its modules are not to be had.
fn reader() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spiffe-bundle");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    build.env("CGO_ENABLED", "0").current_dir(format!("{}/tests/testbed/spiffe", env!("CARGO_MANIFEST_DIR")));
    let output = build.output();
    let succeeded = output.as_ref().is_ok_and(|output| output.status.success());
    assert!(succeeded || std::env::var_os("CI").is_none(), "{output:?}");
    succeeded.then_some(program)
}

/// What go-spiffe reads: sequence, refresh hint, and each root by digest and kind of key.
fn read(program: &Path, bundle: &str) -> Result<Vec<String>, String> {
    let mut command = Command::new(program);
    command.arg("cluster.local").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(bundle.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

fn root(algorithm: &'static SignatureAlgorithm) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("root {algorithm:?}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.self_signed(&KeyPair::generate_for(algorithm).unwrap()).unwrap().pem()
}

#[test]
fn go_spiffe_reads_every_kind_of_root() {
    let Some(program) = reader() else { return };
    let (rsa, ec, ed25519) = ("*rsa.PublicKey", "*ecdsa.PublicKey", "ed25519.PublicKey");
    let p256 = root(&rcgen::PKCS_ECDSA_P256_SHA256);
    let p384 = root(&rcgen::PKCS_ECDSA_P384_SHA384);
    let p521 = root(&rcgen::PKCS_ECDSA_P521_SHA512);
    let edwards = root(&rcgen::PKCS_ED25519);
    let cases: [&[(&str, &str)]; 7] = [
        &[(EAST, rsa)],
        &[(&p256, ec)],
        &[(&p384, ec)],
        &[(&p521, ec)],
        &[(&edwards, ed25519)],
        &[(EAST, rsa), (WEST, rsa)],
        &[(EAST, rsa), (&p256, ec), (&p384, ec), (WEST, rsa), (&edwards, ed25519)],
    ];
    for case in cases {
        let pem: String = case.iter().map(|(pem, _)| *pem).collect();
        let mut wanted = vec!["sequence 7".to_owned(), "refresh 5m0s".to_owned()];
        for (pem, kind) in case {
            for one in parse_roots_any_time(pem).unwrap() {
                wanted.push(format!("root {} {kind}", one.digest));
            }
        }
        wanted[2..].sort();
        assert_eq!(read(&program, &bundle(&pem, 7).unwrap()).unwrap(), wanted);
    }
}

#[test]
fn go_spiffe_refuses_a_key_that_is_not_the_certificates() {
    let Some(program) = reader() else { return };
    let (one, other) = (root(&rcgen::PKCS_ECDSA_P256_SHA256), root(&rcgen::PKCS_ECDSA_P256_SHA256));
    let bundles = [one, other].map(|pem| bundle(&pem, 1).unwrap());
    let [mut mixed, other] = bundles.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    for coordinate in ["x", "y"] {
        mixed["keys"][0][coordinate] = other["keys"][0][coordinate].clone();
    }
    assert!(read(&program, &mixed.to_string()).is_err(), "the reader looks at the keys too");
}
