//! A corpus of PEMs that peers may publish as their root, good and bad.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use isthmus::types::certificate::{
    CertificateError, MAX_BUNDLE, MAX_ROOTS, RootCertificate, RootRule, parse_roots, parse_roots_any_time,
};
use isthmus::types::name::Digest;
use isthmus::types::time::{DAY, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm, date_time_ymd,
};

/// 2027-01-15, within the life of every certificate here but those made not to be.
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// 2026 to 2036, as test certificates are valid.
const BEGIN: Timestamp = Timestamp::from_seconds(1_767_225_600);
const END: Timestamp = Timestamp::from_seconds(2_082_758_400);

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pem").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A CA as Istio makes one, 2026 to 2036.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2036, 1, 1);
    params
}

fn sign(params: &CertificateParams, algorithm: &'static SignatureAlgorithm) -> rcgen::Certificate {
    params.self_signed(&KeyPair::generate_for(algorithm).unwrap()).unwrap()
}

fn root(name: &str) -> String {
    sign(&params(name), &PKCS_ECDSA_P256_SHA256).pem()
}

fn with(change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = params("changed");
    change(&mut params);
    sign(&params, &PKCS_ECDSA_P256_SHA256).pem()
}

fn block(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

#[test]
fn good_roots_are_kept_in_one_form() {
    let east = root("east");
    let west = root("west");
    let good = [
        ("EC P-256", east.clone(), 1),
        ("EC P-384", sign(&params("a"), &PKCS_ECDSA_P384_SHA384).pem(), 1),
        ("Ed25519", sign(&params("a"), &PKCS_ED25519).pem(), 1),
        ("RSA 2048", fixture("rsa-2048.pem"), 1),
        ("two roots", format!("{east}{west}"), 2),
        ("two roots the other way round", format!("{west}{east}"), 2),
        ("one root twice", format!("{east}{east}"), 1),
        ("carriage returns", east.replace('\n', "\r\n"), 1),
        ("no final newline", east.trim_end().to_owned(), 1),
        ("white space around", format!("\n\t {east}\n\n"), 1),
        ("explanatory text", format!("# Issuer: east\nSubject: O=east\n{east}"), 1),
        ("no key usage", with(|params| params.key_usages.clear()), 1),
        ("path length", with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), 1),
        ("ten roots", (0..MAX_ROOTS).map(|at| root(&at.to_string())).collect(), MAX_ROOTS),
    ];
    for (name, pem, count) in good {
        let roots = parse_roots(&pem, NOW).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(roots.len(), count, "{name}");
        assert!(roots.windows(2).all(|pair| pair[0].digest < pair[1].digest), "{name}: sorted by digest");
        for root in &roots {
            assert!(
                root.pem.starts_with("-----BEGIN CERTIFICATE-----\n")
                    && root.pem.ends_with("-----END CERTIFICATE-----\n")
            );
            assert!(!root.pem.contains('\r') && root.pem.matches("BEGIN").count() == 1, "{name}");
            assert_eq!(
                parse_roots(&root.pem, NOW).unwrap(),
                std::slice::from_ref(root),
                "{name}: its own form reads the same"
            );
        }
        assert_eq!(parse_roots_any_time(&pem).unwrap(), roots, "{name}");
    }
    assert_eq!(parse_roots(&format!("{east}{west}"), NOW), parse_roots(&format!("{west}{east}"), NOW));
    assert_eq!(parse_roots(&east.replace('\n', "\r\n"), NOW).unwrap()[0].pem, east.replace("\r\n", "\n"));
}

#[test]
fn what_is_known_of_a_root() {
    let certificate = sign(&params("east\u{1b}[31m"), &PKCS_ECDSA_P256_SHA256);
    let [known] = <[RootCertificate; 1]>::try_from(parse_roots(&certificate.pem(), NOW).unwrap()).unwrap();
    assert_eq!(known.digest, Digest::of(certificate.der()));
    assert_eq!((known.not_before, known.not_after), (BEGIN, END));
    assert_eq!(known.subject, r"O=east\u{1b}[31m");
    assert!(known.has_subject_key_id);
    assert_eq!(known.days_left(known.not_after - DAY * 30), 30);
    assert_eq!(known.days_left(known.not_after - Duration::from_secs(1)), 0);
    assert_eq!(known.days_left(known.not_after + Duration::from_secs(1)), -1);
    let [old] = <[RootCertificate; 1]>::try_from(parse_roots(&fixture("rsa-2048.pem"), NOW).unwrap()).unwrap();
    assert!(old.subject.contains("CN=rsa-2048"));
}

#[test]
fn the_life_of_a_root_is_judged_to_the_second() {
    let pem = root("east");
    let (begin, end) = (BEGIN, END);
    assert!(parse_roots(&pem, begin).is_ok());
    assert!(parse_roots(&pem, end).is_ok());
    let early = parse_roots(&pem, begin - Duration::from_secs(1)).unwrap_err().to_string();
    assert!(early.contains("not valid before 2026-01-01T00:00:00Z"), "{early}");
    let late = parse_roots(&pem, end + Duration::from_secs(1)).unwrap_err().to_string();
    assert!(late.contains("expired at 2036-01-01T00:00:00Z"), "{late}");
    // One expired root beside a good one is an error too: which one signs is not known here.
    let other = with(|params| params.not_after = date_time_ymd(2026, 6, 1));
    assert!(
        parse_roots(&format!("{pem}{other}"), NOW).unwrap_err().to_string().contains("`O=changed` is refused: expired")
    );
    assert_eq!(parse_roots_any_time(&format!("{pem}{other}")).unwrap().len(), 2);
}

#[test]
fn each_bad_bundle_says_why() {
    let good = root("east");
    let der = sign(&params("east"), &PKCS_ECDSA_P256_SHA256).der().to_vec();
    let private = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let lines: Vec<&str> = good.lines().collect();
    // The serial number stands right after the version: 02, its length, its first byte.
    let version = der.windows(5).position(|window| window == [0xa0, 3, 2, 1, 2]).unwrap() + 5;
    let mut negative = der.clone();
    assert_eq!(negative[version], 2);
    negative[version + 2] |= 0x80;

    let bad: Vec<(&str, String, &str)> = vec![
        ("empty", String::new(), "certificates, found 0"),
        ("white space", " \n".to_owned(), "certificates, found 0"),
        ("HTML", "<html><body>not found</body></html>".to_owned(), "no BEGIN line"),
        ("bare base64", BASE64_STANDARD.encode(&der), "no BEGIN line"),
        ("truncated base64", format!("{}\n{}\n{}\n", lines[0], &lines[1][..63], lines.last().unwrap()), "broken"),
        ("cut off", good[..good.len() / 2].to_owned(), "broken off"),
        ("cut off after a good one", format!("{good}{}", &good[..good.len() / 2]), "broken off"),
        ("no BEGIN line", lines[1..].join("\n"), "no BEGIN line"),
        ("END of another", good.replace("END CERTIFICATE", "END X509 CRL"), "broken"),
        ("text inside", good.replacen('\n', "\nhello world!\n", 1), "broken"),
        ("headers", good.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1), "headers"),
        ("truncated DER", block("CERTIFICATE", &der[..der.len() - 9]), "certificate 1 is unreadable"),
        ("bytes after the DER", block("CERTIFICATE", &[&der[..], b"more"].concat()), "bytes follow"),
        ("DER of nothing", block("CERTIFICATE", &[]), "certificate 1 is unreadable"),
        ("second is no certificate", format!("{good}{}", block("CERTIFICATE", b"x")), "certificate 2 is unreadable"),
        (
            "private key after",
            format!("{good}{private}"),
            "private key (`PRIVATE KEY`); take it out and replace that key",
        ),
        ("private key before", format!("{private}{good}"), "private key"),
        ("EC private key", format!("{good}{}", block("EC PRIVATE KEY", b"x")), "private key (`EC PRIVATE KEY`)"),
        ("encrypted private key", format!("{good}{}", block("ENCRYPTED PRIVATE KEY", b"x")), "private key"),
        ("private key cut off", format!("{good}{}", &private[..60]), "private key"),
        ("public key", format!("{good}{}", block("PUBLIC KEY", b"x")), "found `PUBLIC KEY`"),
        ("revocation list", format!("{good}{}", block("X509 CRL", b"x")), "found `X509 CRL`"),
        ("trusted certificate of openssl", block("TRUSTED CERTIFICATE", &der), "found `TRUSTED CERTIFICATE`"),
        ("another block with our label in it", block("CERTIFICATE REQUEST", &der), "found `CERTIFICATE REQUEST`"),
        ("eleven roots", (0..=MAX_ROOTS).map(|at| root(&at.to_string())).collect(), "certificates, found 11"),
        ("too large", format!("{}{good}", "#".repeat(MAX_BUNDLE)), "expected at most"),
        ("version 1", fixture("v1.pem"), "not an X.509 version 3"),
        ("negative serial number", block("CERTIFICATE", &negative), "serial number is negative"),
        ("CA:FALSE", with(|params| params.is_ca = IsCa::ExplicitNoCa), "CA:FALSE"),
        ("no basic constraints", with(|params| params.is_ca = IsCa::NoCa), "CA:FALSE"),
        ("no keyCertSign", with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), "lacks keyCertSign"),
        ("expired", with(|params| params.not_after = date_time_ymd(2026, 6, 1)), "expired at 2026-06-01T00:00:00Z"),
        (
            "not valid yet",
            with(|params| params.not_before = date_time_ymd(2030, 1, 1)),
            "not valid before 2030-01-01T00:00:00Z",
        ),
        ("RSA 1024", fixture("rsa-1024.pem"), "of at least 2048 bits, found 1024"),
        ("RSA-PSS key", fixture("rsa-pss.pem"), "neither RSA nor EC nor Ed25519"),
        ("EC P-224", fixture("ec-p224.pem"), "another curve"),
        ("EC secp256k1", fixture("ec-secp256k1.pem"), "another curve"),
        ("EC with explicit parameters", fixture("ec-explicit.pem"), "another curve"),
        ("Ed448", fixture("ed448.pem"), "neither RSA nor EC nor Ed25519"),
    ];
    assert!(bad.len() >= 25);
    let mut failures = Vec::new();
    for (name, pem, wanted) in &bad {
        match parse_roots(pem, NOW) {
            Ok(roots) => failures.push(format!("{name}: taken, {} roots", roots.len())),
            Err(error) if !error.to_string().contains(wanted) => failures.push(format!("{name}: {error}")),
            Err(error) => assert!(!format!("{error:?}").contains(&private[60..80]), "{name}: quotes a private key"),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn it_ends_before_it_begins() {
    let pem = with(|params| params.not_before = date_time_ymd(2040, 1, 1));
    let error = parse_roots_any_time(&pem).unwrap_err();
    assert!(matches!(error, CertificateError::Rule { rule: RootRule::EndsBeforeItBegins, .. }), "{error}");
}

proptest::proptest! {
    #![proptest_config(crate::support::law::cases(300))]

    /// Whatever a peer makes of a certificate's bytes, it is an error or a root that reads the same again.
    #[test]
    fn no_bytes_make_the_reader_panic(changes in proptest::collection::vec((0..1100_usize, 0..=255_u8), 1..6)) {
        let text = fixture("rsa-2048.pem");
        let body: String = text.lines().filter(|line| !line.starts_with("---")).collect();
        let mut der = BASE64_STANDARD.decode(body).unwrap();
        for (at, byte) in changes {
            let length = der.len();
            der[at % length] = byte;
        }
        if let Ok(roots) = parse_roots_any_time(&block("CERTIFICATE", &der)) {
            proptest::prop_assert_eq!(&parse_roots_any_time(&roots[0].pem).unwrap(), &roots);
        }
    }
}
