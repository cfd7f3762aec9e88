//! A large checkout.

use std::fmt::Write as _;
use std::path::Path;

use isthmus::simulation::cluster::Authority;
use isthmus::types::address::Gateway;
use isthmus::types::key::PrivateKey;
use isthmus::types::name::Digest;
use isthmus::wire::metadata::{IstioFacts, PrivateDocument, PublicDocument};

/// A checkout of `count` clusters that know each other from files.
pub(crate) fn checkout(folder: &Path, count: usize) {
    let api_ca = Authority::new("api CA").unwrap().pem;
    let mut specs = String::from(
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: bench}\nspec: {acceptForeignRoots: true}\n",
    );
    for number in 0..count {
        let name = format!("c{number:04}");
        let seed = *Digest::of(name.as_bytes()).bytes();
        let hex = Digest::of(&seed).hex();
        let uuid = format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30]);
        let public = PublicDocument {
            cluster_uuid: uuid.parse().unwrap(),
            authn_key: PrivateKey::generate(&seed).unwrap().public().clone(),
            root_ca: Authority::new(&name).unwrap().pem,
            mesh_id: None,
            trust_domain: None,
            cluster_domain: None,
            serving_ca: None,
            relay_ca: Some(api_ca.clone()),
            crl: None,
            authn_keys: Vec::new(),
            istio: Some(IstioFacts::default()),
        };
        let private = PrivateDocument {
            ambient_gateways: Vec::new(),
            ingress_gateways: vec![Gateway::new(&format!("203.{}.{}.7", number / 250, number % 250), 15443).unwrap()],
            api_host: format!("api.{name}.example.com").parse().unwrap(),
            cluster_id: Some(name.parse().unwrap()),
            network_name: format!("network-{name}").parse().unwrap(),
            api_ca: Some(api_ca.clone()),
            evidence: None,
            peers_seen: Vec::new(),
            leaving: std::collections::BTreeSet::new(),
        };
        let metadata = folder.join("metadata").join(&name);
        std::fs::create_dir_all(metadata.join("public")).unwrap();
        std::fs::create_dir_all(metadata.join("private")).unwrap();
        std::fs::write(metadata.join("public/public.json"), public.to_json()).unwrap();
        std::fs::write(metadata.join("private/multicluster.json"), private.to_json()).unwrap();
        write!(
            specs,
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  istio: {{standardMeshNetworks: none}}\n  metadata: {{endpoint: \"file://metadata/{name}\"}}\n"
        )
        .unwrap();
    }
    std::fs::create_dir_all(folder.join("specs")).unwrap();
    std::fs::write(folder.join("specs/mesh.yaml"), specs).unwrap();
}
