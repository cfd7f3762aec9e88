//! Hostile and broken spec files: each is an error in words with a place, and quick.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use isthmus::pipeline::compile::load;
use isthmus::spec::{SourceFile, parse};
use isthmus::types::diagnostic::render;
use rstest::rstest;

/// A spec file.
pub(crate) fn source(path: &str, text: impl Into<Vec<u8>>) -> SourceFile {
    SourceFile { path: path.into(), bytes: text.into() }
}

/// Ten levels of ten aliases each: 10^10 values when written out.
fn yaml_bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", vec![below; 10].join(", ")).unwrap();
    }
    text
}

fn many_unknown() -> Vec<u8> {
    let mut text = format!("{HEAD}spec:\n");
    for at in 0..50_000 {
        writeln!(text, "  topology{at}: 1").unwrap();
    }
    text.into_bytes()
}

fn utf16(text: &str, mark: bool) -> Vec<u8> {
    let mark = mark.then_some(0xfeff);
    mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

const HEAD: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\n";

#[rstest]
#[case::utf16(utf16(HEAD, true), "specs/a.yaml:1:1", "found UTF-16")]
#[case::utf16_without_mark(utf16(HEAD, false), "specs/a.yaml:1:1", "found UTF-16")]
#[case::nul(b"kind: M\0esh\n".to_vec(), "specs/a.yaml:1:8", "NUL byte")]
#[case::no_utf8(b"kind: Mesh\nname: \xff\n".to_vec(), "specs/a.yaml:2:7", "expected UTF-8")]
#[case::too_large(vec![b'#'; (1 << 20) + 1], "specs/a.yaml:1:1", "expected at most 1048576 bytes")]
#[case::tabs(format!("{HEAD}spec:\n\tmeshID: shop\n").into_bytes(), "specs/a.yaml:5:1", "found a tab")]
#[case::conflict(
    format!("{HEAD}<<<<<<< HEAD\nspec: {{}}\n=======\nspec: {{a: b}}\n>>>>>>> theirs\n").into_bytes(),
    "specs/a.yaml:4:1",
    "merge conflict markers"
)]
#[case::bomb(yaml_bomb().into_bytes(), "specs/a.yaml:6", "more than 200000 values once its aliases are written out")]
#[case::self_alias(b"a: &a [*a]\n".to_vec(), "specs/a.yaml:1:8", "the alias is inside the value it names")]
#[case::no_anchor(b"a: *b\n".to_vec(), "specs/a.yaml:1:4", "the alias `*b` names no anchor before it")]
#[case::nested_lists("[".repeat(100_000).into_bytes(), "specs/a.yaml:1:65", "nested deeper than 64 levels")]
#[case::nested_maps("{a: ".repeat(100_000).into_bytes(), "specs/a.yaml:1:", "nested deeper than 64 levels")]
#[case::nested_blocks("- ".repeat(100_000).into_bytes(), "specs/a.yaml:1:", "nested deeper than 64 levels")]
#[case::unclosed(b"a: 'b\n".to_vec(), "specs/a.yaml:1:4", "expected YAML: ")]
#[case::tag(b"a: !!binary aGk=\n".to_vec(), "specs/a.yaml:1:", "specs have no tags")]
#[case::list_as_key(b"[a, b]: c\n".to_vec(), "specs/a.yaml:1:1", "expected a text as key, found a list")]
#[case::duplicate_key(
    format!("{HEAD}spec:\n  topology: full\n  topology: pairs\n").into_bytes(),
    "specs/a.yaml:6:3",
    "`topology` is set twice, first in line 5"
)]
#[case::many_duplicates("a: 1\n".repeat(100_000).into_bytes(), "specs/a.yaml:2:1", "more than 100 findings")]
#[case::many_unknown(many_unknown(), "specs/a.yaml:5:3", "more than 100 findings")]
#[case::many_broken_documents("---\na: {\n".repeat(50_000).into_bytes(), "specs/a.yaml:", "more than 100 findings")]
#[case::one_long_line(format!("{}: {{", "x".repeat(1 << 19)).into_bytes(), "specs/a.yaml:1:", "expected YAML: ")]
#[case::list_document(b"[a, b]\n".to_vec(), "specs/a.yaml:1:1", "expected the document to be a mapping, found a list")]
#[case::html(b"<html>\n<body>no</body>\n".to_vec(), "specs/a.yaml:1:1", "to be a mapping, found a single value")]
fn a_broken_file_is_an_error_with_a_place(#[case] bytes: Vec<u8>, #[case] place: &str, #[case] expected: &str) {
    let begin = Instant::now();
    let text = match parse(&[source("specs/a.yaml", bytes)]) {
        Ok(spec) => panic!("accepted: {spec:?}"),
        Err(findings) => render(&findings),
    };
    let took = begin.elapsed();
    assert!(text.contains(place) && text.contains(expected), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(text.len() < 100_000, "{}", text.len());
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_finding() {
    let text = format!("\u{feff}{HEAD}spec: {{acceptForeignRoots: true}}\n").replace('\n', "\r\n");
    let spec = parse(&[source("specs/a.yaml", text)]).unwrap();
    assert_eq!(spec.meshes[0].name.value.as_str(), "shop");
}

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: shop}
spec:
  acceptForeignRoots: true
";

const EAST: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Cluster
metadata: {name: east}
spec:
  multicluster: {image: ghcr.io/isthmus-mesh/engine:0.1.0, apiHost: api.east.example.com}
  metadata:
    endpoint: https://istio-metadata.east.example.com/metadata
";

/// A mesh of east and west, with more lines at the end of each document.
fn checkout(mesh: &str, east: &str, west: &str) -> Vec<SourceFile> {
    vec![
        source("specs/mesh.yaml", format!("{MESH}{mesh}")),
        source("specs/clusters/east.yaml", format!("{EAST}{east}")),
        source("specs/clusters/west.yaml", format!("{}{west}", EAST.replace("east", "west"))),
    ]
}

/// A file of the checkouts of these tests.
fn file(path: &str) -> Option<Vec<u8>> {
    let ca = include_str!("../../fixtures/real/east/api-ca.crt");
    match path {
        "east-ca.pem" => Some(ca.into()),
        "leaked.pem" => Some(
            format!("{ca}-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n").into(),
        ),
        "cut.pem" => Some(ca.get(..200)?.into()),
        "key.pub" => Some(include_bytes!("../../fixtures/real/east/authn-pub.pem").to_vec()),
        _ => None,
    }
}

fn outcome(sources: &[SourceFile]) -> String {
    match load(sources, "0.1.0", &file) {
        Ok((mesh, _)) => panic!("accepted: {mesh:#?}"),
        Err(findings) => render(&findings),
    }
}

#[test]
fn the_checkout_that_the_cases_spoil_is_good() {
    let (mesh, findings) = load(&checkout("", "", ""), "0.1.0", &file).map_err(|findings| render(&findings)).unwrap();
    assert_eq!(render(&findings), "");
    let peers: Vec<_> = mesh.peers_of(&"east".parse().unwrap()).map(|peer| peer.name.to_string()).collect();
    assert_eq!(peers, ["west"]);
}

#[test]
fn no_specification() {
    insta::assert_snapshot!(outcome(&[source("specs/empty.yaml", "# nothing yet\n---\n")]));
}

#[test]
fn no_mesh() {
    insta::assert_snapshot!(outcome(&checkout("", "", "")[1..]));
}

#[test]
fn several_meshes() {
    let mut sources = checkout("", "  mesh: sho\n", "");
    sources.push(source("specs/other.yaml", MESH.replace("shop", "stock")));
    insta::assert_snapshot!(outcome(&sources));
}

#[test]
fn the_findings_of_reading_and_compiling_come_together() {
    insta::assert_snapshot!(outcome(&checkout(
        "  topolgy: full\n  pairs: []\n",
        "  network: net\n  flat: true\n",
        "  network: net\n"
    )));
}

#[test]
fn pairs_that_name_no_cluster_or_one_twice() {
    let long = "x".repeat(64);
    let pairs = format!("  topology: pairs\n  pairs: [[east, wset], [east, east], [east], [{long}, west]]\n");
    insta::assert_snapshot!(outcome(&checkout(&pairs, "", "")));
    insta::assert_snapshot!(outcome(&checkout("  topology: pairs\n  pairs: [[east, wset], [west, west]]\n", "", "")));
    insta::assert_snapshot!(outcome(&checkout("  topology: pairs\n", "", "")));
}

#[test]
fn names_in_upper_case_or_too_long() {
    let mut sources = checkout("", "", "");
    sources[1] = source("specs/clusters/east.yaml", EAST.replace("name: east", "name: East"));
    sources[2] = source("specs/clusters/west.yaml", EAST.replace("name: east", &format!("name: {}", "w".repeat(64))));
    insta::assert_snapshot!(outcome(&sources));
}

#[test]
fn what_two_clusters_must_not_share() {
    let uuid = "2f0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31";
    let digest = "a".repeat(64);
    let same =
        format!("  clusterID: one\n  network: net\n  pin: {{clusterUUID: {uuid}, authnKey: \"sha256:{digest}\"}}\n");
    let mut sources = checkout("", &same, &same);
    let west = sources[2].bytes.clone();
    let west = String::from_utf8(west).unwrap().replace("istio-metadata.west", "istio-metadata.east");
    sources[2].bytes = west.into();
    insta::assert_snapshot!(outcome(&sources));
}

#[test]
fn two_clusters_of_one_name() {
    let mut sources = checkout("", "", "");
    sources.push(source("specs/clusters/copy.yaml", EAST));
    insta::assert_snapshot!(outcome(&sources));
}

#[test]
fn unequal_domains_and_a_network_flat_on_one_side_only() {
    insta::assert_snapshot!(outcome(&checkout(
        "",
        "  network: net\n  flatNetwork: true\n",
        "  network: net\n  clusterDomain: west.local\n"
    )));
}

#[test]
fn roots_of_others_must_be_accepted_aloud() {
    let mut sources = checkout("", "", "");
    sources[0] = source("specs/mesh.yaml", MESH.replace("acceptForeignRoots: true", "acceptForeignRoots: false"));
    insta::assert_snapshot!(outcome(&sources));
    sources[0] = source("specs/mesh.yaml", MESH.replace("acceptForeignRoots: true", "topology: full"));
    insta::assert_snapshot!(outcome(&sources));
}

#[test]
fn credentials() {
    insta::assert_snapshot!(outcome(&checkout("  credentials: {mode: direct, requireToken: true}\n", "", "")));
    insta::assert_snapshot!(outcome(&checkout(
        "  credentials: {lifetime: 15d, acceptRotationGap: true}\n  encryption: {sops: {age: [age1xyz]}}\n",
        "  key: {file: east.key}\n",
        "  key: {cluster: {}}\n"
    )));
    insta::assert_snapshot!(outcome(&checkout(
        "  credentials: {mode: direkt, lifetime: two weeks}\n  encryption: {externalSecrets: {store: vault}}\n",
        "  key: {file: a, env: B}\n",
        "  share: {namespaces: [front], except: [kube-system]}\n"
    )));
}

#[test]
fn shares() {
    let many = vec!["a"; 65].join(", ");
    insta::assert_snapshot!(outcome(&checkout(
        "",
        "  share: {namespaces: [Front, \"a**\", \"-a\"], except: front, only: [a]}\n  shareWith: {wset: {}, east: {except: []}, West: {}, west: [a]}\n",
        &format!("  reconciler: external\n  share: {{except: [{many}]}}\n  shareWith: {{east: {{namespaces: []}}}}\n"),
    )));
    insta::assert_snapshot!(outcome(&checkout(
        "",
        "  shareWith: {wset: {}, east: {except: []}, nobody-near: {}}\n",
        "  reconciler: external\n  share: {except: []}\n  shareWith: {east: {namespaces: []}}\n",
    )));
}

#[test]
fn engine_keys_and_the_engine() {
    let public = include_str!("../../fixtures/real/east/authn-pub.pem").trim_end().replace('\n', "\n        ");
    let keys = format!(
        "  requiredEngine: 0.2
  engineKeys:
    - id: ci
      publicKey: |
        {public}
    - id: again
      publicKey: |
        {public}
    - id: secret
      publicKey: |
        -----BEGIN PRIVATE KEY-----
        MC4CAQAwBQYDK2VwBCIEIFTwn1c8M6ZC5Xkr0sNZxsY9mTTTBtBXqUfYQJTgH6xV
        -----END PRIVATE KEY-----
"
    );
    let text = outcome(&checkout(&keys, "", ""));
    assert!(!text.contains("MC4CAQ"));
    insta::assert_snapshot!(text);
}

#[test]
fn certificates() {
    for path in ["east-ca.pem", "missing.pem", "leaked.pem", "cut.pem", "key.pub", "/etc/ssl/ca.pem", "../ca.pem"] {
        let sources = checkout("", &format!("    ca: {{file: {path}}}\n"), "");
        match (path, load(&sources, "0.1.0", &file)) {
            ("east-ca.pem", Ok((mesh, _))) => {
                let ca = mesh.clusters["east"].endpoint_ca.clone().unwrap();
                assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), 1);
            }
            ("east-ca.pem", Err(findings)) => panic!("{}", render(&findings)),
            (path, Ok(_)) => panic!("{path} was accepted"),
            (path, Err(findings)) => {
                insta::assert_snapshot!(format!("ca_{}", path.replace(['/', '.'], "_")), render(&findings));
            }
        }
    }
    insta::assert_snapshot!(outcome(&checkout(
        "",
        "    ca: {file: a.pem, inline: b}\n",
        "    ca: {}\n  api: {ca: {inline: none}}\n"
    )));
}

#[rstest]
#[case(
    "    ca:\n      inline: |\n        -----BEGIN PRIVATE KEY-----\n        MC4CAQAwBQYDK2VwBCIEIFTwn1c8M6ZC5Xkr0sNZxsY9mTTTBtBXqUfYQJTgH6xV\n        -----END PRIVATE KEY-----\n"
)]
#[case(
    "    ca: {inline: \"-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIFTwn1c8M6ZC5Xkr0sNZxsY9mTTTBtBXqUfYQJTgH6xV\\n-----END PRIVATE KEY-----\"}\n"
)]
#[case(
    "  pin:\n    authnKey: |\n        -----BEGIN PRIVATE KEY-----\n        MC4CAQAwBQYDK2VwBCIEIFTwn1c8M6ZC5Xkr0sNZxsY9mTTTBtBXqUfYQJTgH6xV\n        -----END PRIVATE KEY-----\n"
)]
#[case("  network:\n  MC4CAQAwBQYDK2VwBCIEIFTwn1c8M6ZC5Xkr0sNZxsY9mTTTBtBXqUfYQJTgH6xV\n")]
fn a_private_key_in_a_spec_is_refused_and_not_repeated(#[case] lines: &str) {
    let text = outcome(&checkout("", lines, ""));
    assert!(text.starts_with("error: ") && !text.contains("MC4CAQ"), "{text}");
}

#[test]
fn addresses() {
    insta::assert_snapshot!(outcome(&checkout(
        "",
        "  gateways: [{address: 169.254.169.254}, {address: localhost.}, {address: 0x7f.1}, {address: 203.0.113.7, port: 0}]\n",
        "  gateways: [{address: 203.0.113.7}]\n  allow: {addresses: [198.51.100.0/24], apiHosts: [\"*.example.org\"]}\n  api: {host: api.west.example.com/path}\n"
    )));
    insta::assert_snapshot!(outcome(&checkout(
        "",
        "  clusterID: Kubernetes\n  gateways: []\n",
        "  allow: {addresses: [198.51.100.0/33]}\n"
    )));
}

#[test]
fn components() {
    let bare = EAST.lines().filter(|line| !line.contains("multicluster")).collect::<Vec<_>>().join("\n");
    let mut sources = checkout("", "", "  reconciler: external\n");
    sources[1] = source("specs/clusters/east.yaml", format!("{bare}\n"));
    insta::assert_snapshot!(outcome(&sources));
    sources[1] = source(
        "specs/clusters/east.yaml",
        format!("{bare}\n  multicluster: {{enabled: false, replicas: two, expose: Loadbalancer}}\n"),
    );
    insta::assert_snapshot!(outcome(&sources));
    sources[1] = source("specs/clusters/east.yaml", format!("{bare}\n  multicluster: {{expose: Ingress}}\n"));
    insta::assert_snapshot!(outcome(&sources));
}

#[test]
fn managed_gateways() {
    let managed = "  gateway: {manage: true}\n";
    let of_another = format!("  reconciler: external\n{managed}");
    let flat = format!("  network: network-1\n  flatNetwork: true\n{managed}");
    insta::assert_snapshot!(outcome(&checkout("", managed, &flat)));
    insta::assert_snapshot!(outcome(&checkout("", "  gateway: {manage: yes, port: 443}\n", &of_another)));
}

#[test]
fn clusters_exposed_by_a_gateway() {
    let exposed = |from: &str, endpoint: &str, api: &str| {
        let text = EAST.replace("east", from);
        let lines = text.lines().filter(|line| !line.contains("multicluster") && !line.contains("endpoint"));
        let metadata = format!("  metadata:\n    endpoint: {endpoint}");
        let lines: Vec<_> = lines.map(|line| if line == "  metadata:" { metadata.as_str() } else { line }).collect();
        let own = format!("  multicluster: {{image: engine, apiHost: \"{api}\", expose: Gateway}}\n");
        source(&format!("specs/clusters/{from}.yaml"), format!("{}\n{own}", lines.join("\n")))
    };
    let mut sources = checkout("", "", "");
    sources.truncate(1);
    sources.push(exposed("east", "https://203.0.113.7:15443/metadata", "[2001:db8::7]:15443"));
    sources.push(exposed("west", "https://gw.west.example.com:15443/metadata", "gw.west.example.com:15443"));
    insta::assert_snapshot!(outcome(&sources));
    sources[1] = exposed("east", "https://metadata.east.example.com/metadata", "api.east.example.com:15443");
    sources[2] = exposed("west", "https://metadata.west.example.com:15443/metadata", "api.west.example.com:15443");
    let (_, warnings) = load(&sources, "0.1.0", &file).map_err(|findings| render(&findings)).unwrap();
    insta::assert_snapshot!(render(&warnings));
}

#[test]
fn endpoints_that_another_reader_cannot_read() {
    let bare = EAST.lines().filter(|line| !line.contains("multicluster")).collect::<Vec<_>>().join("\n");
    let deckhouse =
        source("specs/clusters/north.yaml", format!("{}\n  reconciler: deckhouse\n", bare.replace("east", "north")));
    let mut sources = checkout("", "", "");
    for (at, endpoint) in [(1, "https://istio-metadata.east.example.com:8443/metadata"), (2, "file://metadata/west")] {
        let text = String::from_utf8(sources[at].bytes.clone()).unwrap();
        let (before, after) = text.split_once("endpoint: ").unwrap();
        let rest = after.split_once('\n').unwrap().1;
        sources[at].bytes = format!("{before}endpoint: {endpoint}\n{rest}").into();
    }
    load(&sources, "0.1.0", &file).map_err(|findings| render(&findings)).unwrap();
    sources.push(deckhouse);
    // a port is admitted by the newest revision of its CRD, and not by the older shape
    let now = outcome(&sources);
    assert!(!now.contains("port 8443"), "{now}");
    let north = &mut sources[3].bytes;
    *north = String::from_utf8_lossy(north).replace("  metadata:\n", "  metadata:\n    crd: v1alpha1-old\n").into();
    let brackets = sources[2].bytes.clone();
    sources[2].bytes = String::from_utf8_lossy(&brackets).replace("file://metadata/west", "https://[fd00::7]/m").into();
    insta::assert_snapshot!(format!("{now}\n\n{}", outcome(&sources)));
}

#[test]
fn istio_multiclusters() {
    let peer = "\
apiVersion: deckhouse.io/v1alpha1
kind: IstioMulticluster
metadata: {name: south}
spec:
  metadataEndpoint: https://istio.south.example.com/metadata/
  newerField: 1
  metadata: {insecureSkipVerify: true}
---
apiVersion: isthmus.dev/v1alpha1
kind: IstioMulticluster
metadata: {name: far}
spec:
  metadataEndpont: https://istio.far.example.com/metadata/
---
apiVersion: deckhouse.io/v1alpha1
kind: Cluster
metadata: {name: far}
";
    let mut sources = checkout("", "", "");
    sources.push(source("specs/peers.yaml", peer));
    insta::assert_snapshot!(outcome(&sources));
}
