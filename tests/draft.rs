//! Whatever clusters show, the draft is a spec: its findings are the lines that it asks to fill in, and no others.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::cluster::unread::ReadError;
use isthmus::istio::gateways::GatewayError;
use isthmus::istio::installed::ClusterIdError;
use isthmus::istio::mesh_config::MeshConfigError;
use isthmus::istio::objects::NotYaml;
use isthmus::onboarding::draft::{Options, SpecDraft, draft, quoted};
use isthmus::onboarding::survey::{FoundIn, Installed, Installer, RemoteSecret, Survey, adoptions, name_all};
use isthmus::pipeline::compile;
use isthmus::spec::SourceFile;
use isthmus::types::address::Gateway;
use isthmus::types::certificate::RootCertificate;
use isthmus::types::name::{Digest, Namespace};
use isthmus::types::time::Timestamp;
use proptest::prelude::*;

/// Text as a stranger might write it: line breaks, comments, quotes, tags, control characters.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,12}",
        "(yes|no|null|012|1e3|~|: x|- x|# x|'|\"|\\{|&a|\\*a|!!int 3)",
        "[a-z]{0,3}[\\x00-\\x1f\"'#:\u{85}\u{2028}\u{feff}]{1,3}[a-z:]{0,3}",
        "\\PC{0,20}",
    ]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![Just("Kubernetes".to_owned()), "(east|west|no|012|1e3)", "[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?"]
}

fn secret() -> impl Strategy<Value = RemoteSecret> {
    let clusters = prop::collection::btree_map(prop_oneof![id(), text()], prop::option::of(text()), 0..3);
    let owner = prop::option::weighted(0.2, text());
    (text(), clusters, owner).prop_map(|(name, clusters, managed_by)| RemoteSecret { name, clusters, managed_by })
}

prop_compose! {
    fn survey()(
        (context, server, reason, version) in (text(), text(), text(), prop::option::of(text())),
        (uuid, namespace, network, mesh) in (0..6_u8, 0..3_usize, prop::option::of(0..3_u8), prop::option::of(id())),
        (cluster_id, secrets) in (prop::option::of(id()), prop::option::of(prop::collection::vec(secret(), 0..3))),
        (gateways, roots, own_roots) in (prop::option::of(0..3_u8), prop::option::of(text()), prop::option::of(any::<bool>())),
        (installed, switched, own_networks, phrase) in (any::<bool>(), any::<bool>(), any::<bool>(), prop::collection::vec(text(), 0..3)),
    ) -> Survey {
        let root = |subject: String| RootCertificate {
            pem: String::new(), digest: Digest::of(subject.as_bytes()), not_after: Timestamp::NO_END, not_before: Timestamp::EPOCH, subject, has_subject_key_id: true,
        };
        let unread = |message: &str| ReadError::Status { code: 403, message: message.to_owned() };
        let namespaces = ["istio-system", "d8-istio", "no"];
        let address = |host: &str| format!("{host}.example.com").parse().unwrap();
        Survey {
            server,
            uuid: if uuid == 0 { Err(unread(&reason).into()) } else { Ok(format!("00000000-0000-4000-8000-00000000000{uuid}").parse().unwrap()) },
            namespace: namespaces[namespace].parse::<Namespace>().unwrap(),
            other_namespaces: phrase.clone(),
            revisions: ["default", "no", "1-31"][..namespace].iter().map(|one| one.parse().unwrap()).collect(),
            version,
            cluster_id: cluster_id.map_or_else(|| Err(ClusterIdError::Several([reason.clone()].into())), |id| Ok(id.parse().unwrap())),
            modes: std::collections::BTreeSet::new(),
            installer: if switched { Installer::Helm } else { Installer::IstioOperator },
            switched,
            network: network.map(|number| FoundIn::new(format!("network-{number}").parse().unwrap(), reason.clone())),
            gateways: gateways.map_or_else(
                || Err(GatewayError::NoAddress { service: reason.clone() }),
                |count| Ok((0..count).map(|at| Gateway::new(&format!("203.0.113.{at}"), 15443).unwrap()).collect()),
            ),
            gateway_services: phrase.clone(),
            unlabelled: phrase,
            roots: roots.map_or_else(|| Err(unread(&reason).into()), |subject| Ok(FoundIn::new(vec![root(subject)], reason.clone()))),
            trust_domain: own_networks.then(|| FoundIn::new("cluster.local".parse().unwrap(), reason.clone())),
            mesh_id: mesh.map(|id| id.parse().unwrap()),
            own_roots: own_roots.ok_or_else(|| {
                MeshConfigError::NotYaml { config_map: reason.clone(), source: NotYaml }
            }),
            own_networks,
            installed: if installed {
                let ca = include_str!("../fixtures/real/east/api-ca.crt").to_owned();
                Installed { authn_key: None, serving_ca: Some(ca), exporter: Some(address(&format!("m{}", context.len()))), proxy: Some(address("a")) }
            } else {
                Installed::default()
            },
            secrets: secrets.ok_or_else(|| unread(&reason)),
            context,
        }
    }
}

fn findings(draft: &SpecDraft) -> BTreeSet<(String, usize, String)> {
    let sources: Vec<SourceFile> = draft
        .files
        .iter()
        .map(|(path, text)| SourceFile { path: path.as_str().into(), bytes: text.clone().into_bytes() })
        .collect();
    let found = match compile::load(&sources, env!("CARGO_PKG_VERSION"), &|_| None) {
        Ok((mesh, _)) => {
            assert_eq!(mesh.name, draft.mesh);
            return BTreeSet::new();
        }
        Err(found) => found,
    };
    let errors = found.sorted().into_iter().filter(|one| one.severity == isthmus::types::diagnostic::Severity::Error);
    let place = |one: &isthmus::types::diagnostic::Diagnostic| {
        let at = one.at.clone().unwrap();
        (at.file.to_string(), at.line, one.explanation.message.clone())
    };
    errors.map(place).collect()
}

proptest! {
    #![proptest_config(crate::support::law::cases(200))]

    #[test]
    fn a_draft_is_a_spec_whatever_clusters_show(
        surveys in prop::collection::vec(survey(), 1..5),
        accept_foreign_roots in any::<bool>(),
        adopt in any::<bool>(),
    ) {
        let mut contexts = BTreeSet::new();
        let surveys: Vec<Survey> = surveys.into_iter().filter(|one| contexts.insert(one.context.clone())).collect();
        let (named, _) = name_all(surveys);
        let names: BTreeSet<_> = named.iter().map(|one| one.name.value.clone()).collect();
        prop_assert_eq!(names.len(), named.len(), "two clusters of one name");
        let (found, _) = adoptions(&named);
        let adoptions = if adopt { found } else { Vec::new() };
        let options = Options { accept_foreign_roots, adoptions, ..Options::default() };
        let draft = draft(&named, &options).unwrap();
        prop_assert_eq!(draft.files.len(), named.len() + 1);
        let asked: BTreeMap<(String, usize), &str> =
            draft.fill_in.iter().map(|one| ((one.path.clone(), one.line), one.field.as_str())).collect();
        for (path, line, message) in findings(&draft) {
            // clusters may well contradict each other: that is said where it stands
            let contradiction = ["has the ", "is flat", "flat"].iter().any(|phrase| message.contains(phrase));
            prop_assert!(
                contradiction || asked.contains_key(&(path.clone(), line)),
                "{}:{}: {}\n{}", path, line, message, draft.files[&path]
            );
        }
    }

    #[test]
    fn a_quoted_word_is_one_word_for_a_shell(word in "[^\\x00]{0,20}") {
        let output = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(&word))).output().unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
    }
}
