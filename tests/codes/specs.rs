//! What is wrong with specs, one by one, together, and against a lock; and with templates.

use std::collections::BTreeSet;

use isthmus::types::explanation::Code;
use serde_json::Value;

use super::Scenario;
use super::documents::PLAN;
use crate::support::checkout::Checkout;
use crate::support::environment::Ran;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "files that are no specs, or no good ones",
        codes: &[
            Code::TooManyFindings,
            Code::LimitExceeded,
            Code::WrongEncoding,
            Code::MergeConflict,
            Code::InvalidYaml,
            Code::UnknownKind,
            Code::UnknownField,
            Code::FieldMissing,
            Code::InvalidValue,
            Code::NotAvailable,
            Code::DirectCredentials,
            Code::SecretInFile,
            Code::CheckoutHasFindings,
        ],
        run: |_| vec![each_file_by_itself()],
    },
    Scenario {
        name: "specs that do not go together",
        codes: &[
            Code::ContradictorySpecs,
            Code::NotUnique,
            Code::UnknownCluster,
            Code::CaUnusable,
            Code::ForeignRootsNotAccepted,
            Code::OtherEngineRequired,
        ],
        run: |_| vec![together()],
    },
    Scenario {
        name: "specs without a Mesh",
        codes: &[Code::NoMesh],
        run: |_| {
            let checkout = Checkout::new();
            checkout.write("specs/mesh.yaml", b"# nothing yet\n");
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "an IstioMulticluster with a newer field, in a checkout without a cluster of its own",
        codes: &[Code::UnknownField, Code::ContradictorySpecs],
        run: |_| {
            let checkout = Checkout::new();
            let peer = "apiVersion: deckhouse.io/v1alpha1\nkind: IstioMulticluster\nmetadata: {name: south}\n\
                        spec: {metadataEndpoint: \"https://m.south.invalid/metadata/\", newer: 1}\n";
            checkout
                .write("specs/mesh.yaml", format!("{MESH}spec: {{acceptForeignRoots: true}}\n---\n{peer}").as_bytes());
            let ran = checkout.engine(&["plan", "--locked", "--output", "json"]);
            assert_eq!(ran.code, 0, "{ran}");
            vec![ran]
        },
    },
    Scenario {
        name: "a cluster without its spec, and a spec that was edited, while links rest on them",
        codes: &[Code::ClusterVanished, Code::EditWhileJoined],
        run: |_| {
            let checkout = Checkout::joined();
            checkout.edit("specs/mesh.yaml", "metadata: {name: west}", "metadata: {name: north}");
            let vanished = checkout.engine(PLAN);
            checkout.edit("specs/mesh.yaml", "metadata: {name: north}", "metadata: {name: west}");
            checkout.edit("specs/mesh.yaml", "spec: {istio: {", "spec: {istio: {config: helmValues, ");
            let edited = checkout.engine(PLAN);
            assert_eq!((vanished.code, edited.code), (4, 4), "{vanished}\n{edited}");
            vec![vanished, edited]
        },
    },
    Scenario {
        name: "a mesh that is renamed while its tree carries the old name",
        codes: &[Code::MeshRenamed],
        run: |_| {
            let checkout = Checkout::joined();
            std::fs::remove_dir_all(checkout.path("lock")).unwrap();
            checkout.edit("specs/mesh.yaml", "kind: Mesh\nmetadata: {name: ", "kind: Mesh\nmetadata: {name: an-");
            let ran = checkout.engine(PLAN);
            assert_eq!(ran.code, 4, "{ran}");
            vec![ran]
        },
    },
    Scenario {
        name: "templates that are none",
        codes: &[Code::InvalidTemplate],
        run: |_| {
            let checkout = Checkout::new();
            checkout.write("templates/exporter/deploy.yaml", b"");
            checkout.write("templates/exporter/deployment.yaml", b"{{ nowhere");
            checkout.write("templates/exporter/rbac.yaml", b"kind: nothing\n");
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "a policy that does not admit what is declared",
        codes: &[Code::PolicyViolated],
        run: |_| {
            let checkout = Checkout::new();
            checkout.write(
                "policy.yaml",
                b"apiVersion: isthmus.dev/v1alpha1\nkind: Policy\nspec: {clusters: {reconcilers: [deckhouse]}}\n",
            );
            vec![checkout.engine(PLAN)]
        },
    },
    Scenario {
        name: "overrides that change what they may not",
        codes: &[Code::OverrideNotAllowed],
        run: |_| {
            let checkout = Checkout::new();
            let components = "metadata: {endpoint: \"file://metadata/east\"}, multicluster: {image: ghcr.io/x/engine:1, apiHost: api.east.example.com}}";
            checkout.edit("specs/mesh.yaml", "metadata: {endpoint: \"file://metadata/east\"}}", components);
            checkout.write(
                "templates/relay/serviceaccount.yaml",
                b"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: other}\n",
            );
            let ran = checkout.engine(PLAN);
            assert_eq!(ran.code, 4, "{ran}");
            vec![ran]
        },
    },
];

const MESH: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\n";

/// Each file of a checkout has the findings that its row names, whatever the others have.
fn each_file_by_itself() -> Ran {
    let spec = |spec: &str| format!("{MESH}spec: {spec}\n").into_bytes();
    let many = format!("{MESH}spec:\n{}", "  topology: full\n".repeat(200));
    let key = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIFTwn1c8M6ZC5Xkr0sNZxsY9mTTTBtBXqUfYQJTgH6xV\\n-----END PRIVATE KEY-----";
    let table: [(&str, Code, Vec<u8>); 33] = [
        ("many", Code::TooManyFindings, many.into_bytes()),
        ("deep", Code::LimitExceeded, "[".repeat(1000).into_bytes()),
        ("utf-16", Code::WrongEncoding, b"\xff\xfek\0i\0n\0d\0".to_vec()),
        ("latin-1", Code::WrongEncoding, b"kind: M\xe9sh\n".to_vec()),
        ("nul", Code::WrongEncoding, b"kind: M\0esh\n".to_vec()),
        ("conflict", Code::MergeConflict, [b"<<<<<<< HEAD\n".to_vec(), spec("{}")].concat()),
        ("tab", Code::InvalidYaml, b"kind:\n\tMesh\n".to_vec()),
        ("quote", Code::InvalidYaml, b"kind: 'Mesh\n".to_vec()),
        ("tag", Code::InvalidYaml, b"kind: !!binary aGk=\n".to_vec()),
        ("alias", Code::InvalidYaml, b"kind: *mesh\n".to_vec()),
        ("key", Code::InvalidYaml, b"[a, b]: c\n".to_vec()),
        ("twice", Code::InvalidYaml, spec("{topology: full, topology: pairs}")),
        ("kind", Code::UnknownKind, b"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n".to_vec()),
        ("version", Code::UnknownKind, MESH.replace("v1alpha1", "v2").into_bytes()),
        ("field", Code::UnknownField, spec("{acceptForeignRots: true}")),
        ("missing", Code::FieldMissing, b"apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nspec: {}\n".to_vec()),
        ("list", Code::InvalidValue, b"[a, b]\n".to_vec()),
        ("name", Code::InvalidValue, MESH.replace("shop", "Shop").into_bytes()),
        ("empty", Code::InvalidValue, spec("{meshID: }")),
        ("text", Code::InvalidValue, spec("{meshID: [shop]}")),
        ("flag", Code::InvalidValue, spec("{acceptForeignRoots: \"yes\"}")),
        ("choice", Code::InvalidValue, spec("{topology: ful}")),
        ("pair", Code::InvalidValue, spec("{topology: pairs, pairs: [[east]]}")),
        ("pairs", Code::InvalidValue, spec("{topology: pairs, pairs: east}")),
        ("duration", Code::InvalidValue, spec("{settle: soon}")),
        ("number", Code::InvalidValue, cluster("{multicluster: {replicas: two}}")),
        ("image", Code::InvalidValue, cluster("{multicluster: {image: \"registry example\"}}")),
        ("ca", Code::InvalidValue, cluster("{metadata: {endpoint: \"file://a\", ca: {}}}")),
        ("path", Code::InvalidValue, cluster("{metadata: {endpoint: \"file://a\", ca: {file: ../ca.pem}}}")),
        ("share", Code::InvalidValue, cluster("{share: {namespaces: [\"front**\"]}}")),
        ("sops", Code::NotAvailable, cluster("{key: {sops: a}}")),
        ("direct", Code::DirectCredentials, spec("{credentials: {mode: direct}}")),
        ("secret", Code::SecretInFile, cluster(&format!("{{pin: {{authnKey: \"{key}\"}}}}"))),
    ];
    let checkout = Checkout::new();
    for (name, _, text) in &table {
        checkout.write(&format!("specs/{name}.yaml"), text);
    }
    let ran = checkout.engine(PLAN);
    for (name, code, _) in &table {
        let found = found_in(&ran, &format!("specs/{name}.yaml"));
        assert!(found.contains(code.as_str()), "`{name}` is for `{code}` and has {found:?}: {ran}");
    }
    assert!(!ran.says("MC4CAQ"), "a private key is repeated");
    ran
}

fn cluster(spec: &str) -> Vec<u8> {
    let head = MESH.replace("Mesh", "Cluster").replace("shop", "north");
    format!("{head}spec: {spec}\n").into_bytes()
}

/// The codes of what was found in a file; one finding has no place and names the file.
fn found_in(ran: &Ran, file: &str) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    let findings = document["findings"].as_array().unwrap_or_else(|| panic!("{ran}"));
    let of_file = findings.iter().filter(|finding| {
        finding["file"] == file || finding["message"].as_str().is_some_and(|message| message.contains(file))
    });
    of_file.map(|finding| finding["code"].as_str().unwrap_or_else(|| panic!("{ran}")).to_owned()).collect()
}

/// Documents of which each is right by itself.
fn together() -> Ran {
    let checkout = Checkout::new();
    let mesh = "{requiredEngine: \"9.9\", topology: pairs, pairs: [[east, west], [east, wset], [east, east]]}";
    checkout.edit("specs/mesh.yaml", "{acceptForeignRoots: true}", mesh);
    checkout.edit("specs/mesh.yaml", "east\"}}", "east\", ca: {file: nowhere.pem}}, network: blue, gateways: []}");
    checkout.edit("specs/mesh.yaml", "west\"}}", "west\"}, network: blue, evidence: required}");
    checkout.engine(PLAN)
}
