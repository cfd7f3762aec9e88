//! Names that are ours: files of a checkout, objects, labels, annotations, ports.
//!
//! Which there are is taken from what is rendered and printed; what each is for is said here, and held against that both ways.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::gitops::argocd::PLUGIN;
use isthmus::model::layout;
use isthmus::model::lock::Lock;
use isthmus::model::mesh::{Expose, MeshConfigTarget, Reconciler};
use isthmus::model::needs::Wave;
use isthmus::onboarding::draft::SCHEMA_PATH;
use isthmus::session::keys::ENGINE_KEY_PATH;
use isthmus::spec::API_VERSION;
use isthmus::types::object as mark;
use isthmus::types::token::{ISSUER, Scope};
use isthmus::wire::agent::{ACCEPT_TRUST, AGENT, GROUP, LOCK_MAP, PLURAL};
use isthmus::wire::identity::{IDENTITY, IDENTITY_FILE};
use isthmus::wire::metadata::{PRIVATE_PATH, PUBLIC_PATH};
use isthmus::wire::names::{EXPORTER, PROXY, RELAY, RELAY_AUDIENCE, tls_secret};
use isthmus::wire::peers::{PEERS, PEERS_GROUP};
use isthmus::wire::routes::ROUTES;
use serde_json::Value;

use super::{ReferencePage, code, constants, hold, sentence};
use crate::init::written;
use crate::render::world::{RenderWorld, files};
use crate::support::checkout::Checkout;

/// A file of a checkout: its path, who writes it, what it holds. `<…>` stands for what differs.
fn files_of_a_checkout() -> Vec<(String, &'static str, &'static str)> {
    let (people, runs) = ("people", "`engine apply`, `engine watch`");
    let values = |file: &str| format!("{}/<cluster>/{file}", layout::VALUES);
    vec![
        (
            format!("{}/<path>.yaml", layout::SPECS),
            people,
            "[specs](spec.md): Mesh, Cluster, IstioMulticluster, in any files and folders; `engine init` writes the first",
        ),
        (layout::POLICY.to_owned(), people, "the [policy](spec.md#policy)"),
        (format!("{}/<role>/<file>.yaml", layout::TEMPLATES), people, "overrides of the built-in templates"),
        (ENGINE_KEY_PATH.to_owned(), "`engine keys new`", "the engine's private key"),
        (SCHEMA_PATH.to_owned(), "`engine init`", "JSON Schema of specs, for editors; `engine schema` prints it"),
        (".gitignore".to_owned(), "`engine init`", "keeps private keys out of git"),
        (".gitattributes".to_owned(), "`engine init`", "what runs write is generated, and never merged line by line"),
        (format!("{}/.gitignore", layout::KEYS), "`engine keys new`", "keeps the folder out of git"),
        (
            Lock::MESH_PATH.to_owned(),
            "`engine keys new`, `engine apply`, `engine watch`",
            "lock of the mesh: the engine's public keys",
        ),
        (format!("{}/clusters/<cluster>.yaml", layout::LOCK), runs, "what was accepted of a cluster"),
        (format!("{}<cluster>.yaml", Lock::LINKS), runs, "stages of the links of a reader"),
        (
            format!("{}/<cluster>/<kind>-<name>.yaml", layout::RENDERED),
            runs,
            "an object; the kind in lower case, with `.<group>` behind it where there is one",
        ),
        (
            format!("{}/<cluster>/{}", layout::RENDERED, layout::KUSTOMIZATION),
            runs,
            "the list of the cluster's objects, for Kustomize and Flux",
        ),
        (values(layout::HELM_FILE), runs, "with `istio.config: helmValues`, for the chart `istiod`"),
        (values(layout::ISTIO_OPERATOR_FILE), runs, "with `istio.config: istioOperator`, for `istioctl install`"),
        (values(layout::SAIL_FILE), runs, "with `istio.config: sail`, for the Sail operator"),
    ]
}

/// What an object of this name is for, in clusters.
fn objects() -> Vec<(String, &'static str)> {
    vec![
        (EXPORTER.to_owned(), "the metadata-exporter: publishes the cluster's metadata and evidence"),
        (PROXY.to_owned(), "the api-proxy: lets peers read what their istiod needs of the apiserver"),
        (RELAY.to_owned(), "the relay: holds the cluster's key and takes its istiod to the peers' api-proxies"),
        (
            isthmus::istio::mesh_config::SHARED_MESH_CONFIG.to_owned(),
            "root CAs and networks of peers; istiod merges it (`SHARED_MESH_CONFIG`)",
        ),
        (
            PEERS.to_owned(),
            "who may read the cluster and with which keys, the rights of those users, and their share of the apiserver",
        ),
        (ROUTES.to_owned(), "which peers the relay reaches, and where"),
        (constants::text("pipeline/render/peers.rs", "IMPERSONATE"), "lets the api-proxy act as the users of peers"),
        (isthmus::wire::names::CROSS_NETWORK.to_owned(), "opens the east-west gateway to services of the cluster"),
        (
            isthmus::wire::names::EAST_WEST.to_owned(),
            "the east-west gateway, where it is rendered (`gateway: {manage: true}`); Istio makes `isthmus-eastwest-istio` of it",
        ),
        (
            isthmus::wire::names::EXPOSE.to_owned(),
            "lead from the east-west gateway to exporter and api-proxy (`expose: Gateway`)",
        ),
        ("istio-remote-secret-<peer>".to_owned(), "the remote secret by which istiod reads a peer, through the relay"),
        (
            "<peer>".to_owned(),
            "a peer, for Deckhouse's own module (`reconciler: deckhouse`) or the agent (`reconciler: agent`)",
        ),
        (
            AGENT.to_owned(),
            "the agent (`reconciler: agent`): joins the cluster with the peers that IstioMulticluster objects declare, and is its relay; \
             the ConfigMap has the Mesh and the Cluster that it acts for",
        ),
        (format!("{AGENT}-events"), "lets the agent write Events of IstioMulticluster objects"),
        (format!("{PLURAL}.{GROUP}"), "the kind IstioMulticluster"),
    ]
}

/// What `engine manifests` prints.
const PRINTED: &[(&str, &str)] = &[
    ("isthmus-plugin", "configuration of the Argo CD plugin"),
    ("argocd-repo-server", "patch of Argo CD's own Deployment: the plugin's sidecar"),
    ("isthmus-<mesh>", "Argo CD: the Applications of all clusters; Flux: the checkout"),
    ("isthmus-<cluster>", "the Application of one cluster"),
    ("isthmus-<cluster>-<wave>", "one wave of a cluster's objects"),
];

/// Labels, by name: values and meaning.
fn labels() -> Vec<(&'static str, String, &'static str)> {
    vec![
        (mark::MANAGED_BY, code(mark::MANAGER), "the object is written by the engine or a role"),
        (mark::PART_OF, format!("{}, `argocd`", code(mark::MANAGER)), "what the object is part of"),
        ("app.kubernetes.io/name", "name of the role".to_owned(), "selects the pods of a role"),
        (mark::MESH_LABEL, "name of the Mesh".to_owned(), "which mesh the object is of"),
        (
            mark::OWNER_LABEL,
            format!("{}, {}, {}", code(mark::OF_TREE), code(mark::OF_AGENT), code(mark::OF_CLUSTER)),
            "who writes it: `tree` is a checkout, `agent` an agent, `cluster` a role in its own cluster; each deletes only its own",
        ),
        ("istio.io/dataplane-mode", code("none"), "Istio's own: pods of roles are not in the mesh (ambient)"),
        ("sidecar.istio.io/inject", code("false"), "Istio's own: pods of roles are not in the mesh (sidecar)"),
        (
            "topology.istio.io/network",
            "name of a network".to_owned(),
            "Istio's own: into which network the east-west gateway leads",
        ),
        (mark::REMOTE_SECRET_LABEL, code("true"), "Istio's own: istiod reads the remote secret"),
    ]
}

/// Annotations, by name: on what, and meaning.
const ANNOTATIONS: &[(&str, &str, &str)] = &[
    (mark::STEPS_ANNOTATION, "every rendered object", "steps of the plan that it comes from"),
    (mark::INPUTS_ANNOTATION, "remote secrets", "SHA-256 of what the secret was made of"),
    (mark::CLUSTER_ANNOTATION, "remote secrets", "Istio's own: the cluster ID"),
    (mark::SYNC_WAVE, "every rendered object", "Argo CD's own: the wave in which it is applied"),
    (
        "isthmus.dev/plugin",
        "pods of argocd-repo-server",
        "SHA-256 of the plugin's configuration, so that they restart with it",
    ),
    (
        "argocd.argoproj.io/manifest-generate-paths",
        "Applications",
        "Argo CD's own: which changes concern the Application",
    ),
];

#[test]
fn names() {
    let mut page = ReferencePage::new(
        "Names",
        "* [Files of a checkout](#files-of-a-checkout)\n* [Objects in a cluster](#objects-in-a-cluster)\n\
         * [Objects that roles write](#objects-that-roles-write)\n* [Objects for GitOps tools](#objects-for-gitops-tools)\n\
         * [Labels](#labels)\n* [Annotations](#annotations)\n* [Ports](#ports)\n* [Published documents](#published-documents)\n\
         * [Identities](#identities)",
    );
    let rendered = rendered();
    let checkout = checkout();
    let printed = printed(&checkout);

    page.heading(2, "Files of a checkout");
    let paths: BTreeSet<String> = rendered.keys().cloned().chain(paths(&checkout)).chain(written()).collect();
    let files = files_of_a_checkout();
    for path in &paths {
        assert!(files.iter().any(|(pattern, ..)| is_like(pattern, path)), "{path} is not listed");
    }
    let by_runs = files.iter().filter(|(_, who, _)| *who != "people");
    for (pattern, ..) in by_runs {
        assert!(paths.iter().any(|path| is_like(pattern, path)), "nothing writes {pattern}");
    }
    let rows: Vec<_> =
        files.iter().map(|(path, who, what)| [code(path), (*who).to_owned(), (*what).to_owned()]).collect();
    page.table(["path", "written by", "what it holds"], &rows);

    let all: Vec<Value> = rendered
        .iter()
        .filter(|(path, _)| path.starts_with(layout::RENDERED) && !path.ends_with(layout::KUSTOMIZATION))
        .map(|(_, text)| serde_yaml::from_str(text).unwrap())
        .collect();
    page.heading(2, "Objects in a cluster");
    page.text("What is rendered below `rendered/<cluster>/`, in Istio's namespace where the kind has one.");
    let described: Vec<_> = objects();
    page.table(["name", "kinds", "what for"], &kinds(&all, &described));

    page.heading(2, "Objects that roles write");
    page.text(&format!(
        "The relay writes these in its own cluster; they are in no checkout, and carry `{}: {}`.",
        mark::OWNER_LABEL,
        mark::OF_CLUSTER
    ));
    page.table(["name", "kind", "keys", "what for"], &of_roles());

    page.text(&format!(
        "An agent applies what is rendered elsewhere for the links of a cluster, with `{}: {}` and the field manager \
         `isthmus`; and ConfigMap `{LOCK_MAP}`: what it learned and accepted, in the files of a checkout's lock.",
        mark::OWNER_LABEL,
        mark::OF_AGENT
    ));

    page.heading(2, "Objects for GitOps tools");
    page.text("What `engine manifests argocd` and `engine manifests flux` print.");
    let described: Vec<_> = PRINTED.iter().map(|(name, about)| ((*name).to_owned(), *about)).collect();
    page.table(["name", "kinds", "what for"], &kinds(&printed, &described));

    let marks =
        |kind: &str| all.iter().chain(&printed).flat_map(|object| marked(object, kind)).collect::<BTreeSet<_>>();
    page.heading(2, "Labels");
    let labels = labels();
    same(&marks("labels"), labels.iter().map(|(name, ..)| (*name).to_owned()));
    let rows: Vec<_> =
        labels.iter().map(|(name, values, about)| [code(name), values.clone(), sentence(about)]).collect();
    page.table(["label", "values", "meaning"], &rows);

    page.heading(2, "Annotations");
    same(&marks("annotations"), ANNOTATIONS.iter().map(|(name, ..)| (*name).to_owned()));
    let mut rows: Vec<_> =
        ANNOTATIONS.iter().map(|(name, on, about)| [code(name), (*on).to_owned(), sentence(about)]).collect();
    let adopt = "you set it on a remote secret made by hand, to the Mesh's name: the engine's own takes its place";
    rows.push([code(mark::ADOPT_ANNOTATION), "remote secrets made by hand".to_owned(), sentence(adopt)]);
    let accept = "you set it to the digest of a trust change: the agent accepts it, of the peer or of its own cluster";
    let on = format!("IstioMulticluster objects, ConfigMap `{AGENT}`");
    rows.push([code(ACCEPT_TRUST), on, sentence(accept)]);
    page.table(["annotation", "on", "meaning"], &rows);

    page.heading(2, "Ports");
    page.text("Of the Services; peers reach exporter and api-proxy, istiod the relay.");
    page.table(["service", "port", "name", "container port"], &ports(&all));

    page.heading(2, "Published documents");
    page.text("Below the exporter's address and its `--path-prefix`. An endpoint names what stands before them.");
    let bundle = constants::text("roles/exporter/published.rs", "BUNDLE_PATH");
    let rows = [
        (PUBLIC_PATH, "what anyone may read: UUID, authn keys, root CAs, trust domain"),
        (PRIVATE_PATH, "for admitted peers: network, gateways, api host, evidence"),
        (&bundle, "the root CAs as a SPIFFE bundle"),
    ];
    page.table(["path", "what it holds"], &rows.map(|(path, about)| [code(path), sentence(about)]));

    page.heading(2, "Identities");
    let rows = [
        ("API version of specs", code(API_VERSION)),
        ("`iss` of tokens that engine and relays sign", code(ISSUER)),
        ("scopes of keys", Scope::ALL.map(|scope| code(scope.as_str())).join(", ")),
        ("group of the users that the api-proxy becomes for peers", code(PEERS_GROUP)),
        ("audience of the token that istiod shows a relay (`requireToken`)", code(RELAY_AUDIENCE)),
        ("name of the Argo CD plugin", code(PLUGIN)),
    ];
    page.table(["what", "value"], &rows.map(|(what, value)| [sentence(what), value]));
    hold("names.md", &page.0);
}

/// All files of clusters in all ways of joining them.
fn rendered() -> BTreeMap<String, String> {
    let mut world = RenderWorld::joined(&["east", "north", "west"]);
    world.cluster("north").reconciler = Reconciler::Deckhouse;
    world.cluster("north").components = None;
    world.cluster("east").manages_gateway = true;
    world.cluster("east").components.as_mut().unwrap().expose = Expose::Gateway;
    world.cluster("east").network = Some("network-east".parse().unwrap());
    let mut all = files("east", &world.render("east"));
    all.extend(files("north", &world.render("north")));
    world.cluster("east").reconciler = Reconciler::Agent;
    all.extend(files("east", &world.render("east")));
    world.cluster("east").reconciler = Reconciler::Rendered;
    for target in [MeshConfigTarget::HelmValues, MeshConfigTarget::IstioOperator, MeshConfigTarget::Sail] {
        world.cluster("east").istio.config = target;
        all.extend(files("east", &world.render("east")));
    }
    all
}

/// A checkout after its key was made and a run.
fn checkout() -> Checkout {
    let checkout = Checkout::new();
    checkout.engine(&["keys", "new"]).done();
    checkout.engine(&["apply"]).done();
    checkout
}

/// What was written there, besides what the test wrote itself.
fn paths(checkout: &Checkout) -> Vec<String> {
    let root = checkout.path("");
    let mut written: Vec<_> =
        checkout.output().keys().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
    written.extend(
        std::fs::read_dir(checkout.path(layout::KEYS))
            .unwrap()
            .map(|entry| format!("{}/{}", layout::KEYS, entry.unwrap().file_name().to_str().unwrap())),
    );
    written
}

/// Whether a path is one of a pattern; `<path>` stands for folders, too.
fn is_like(pattern: &str, path: &str) -> bool {
    if let Some((begin, end)) = pattern.split_once("<path>") {
        return path.starts_with(begin) && path.ends_with(end);
    }
    let (patterns, parts): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    patterns.len() == parts.len()
        && patterns.iter().zip(parts).all(|(pattern, part)| match pattern.split_once('<') {
            None => *pattern == part,
            Some((begin, rest)) => part.starts_with(begin) && part.ends_with(rest.rsplit('>').next().unwrap()),
        })
}

/// What the tools are given.
fn printed(checkout: &Checkout) -> Vec<Value> {
    let repository = ["--repo", "https://git.example.com/platform.git"];
    let image = ["--image", "registry.example.com/isthmus:0.1.0"];
    let all = [
        [&["manifests", "argocd"][..], &repository, &image].concat(),
        [&["manifests", "argocd", "--cluster", "east"][..], &repository].concat(),
        [&["manifests", "flux"][..], &repository].concat(),
    ];
    let texts = all.map(|arguments| checkout.engine(&arguments).done());
    texts.iter().flat_map(|text| text.split("\n---\n")).map(|text| serde_yaml::from_str(text).unwrap()).collect()
}

/// A row for each name: which kinds have it, and what it is for. Fails for a name that no one has, or that is not described.
fn kinds(objects: &[Value], described: &[(String, &'static str)]) -> Vec<[String; 3]> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for object in objects {
        let name = general(object["metadata"]["name"].as_str().unwrap());
        found.entry(name).or_default().insert(object["kind"].as_str().unwrap().to_owned());
    }
    same(&found.keys().cloned().collect(), described.iter().map(|(name, _)| name.clone()));
    let row = |(name, about): &(String, &'static str)| {
        let kinds: Vec<_> = found[name].iter().cloned().collect();
        [code(name), kinds.join(", "), sentence(about)]
    };
    described.iter().map(row).collect()
}

/// A name without the names of this test's clusters and mesh.
fn general(name: &str) -> String {
    if ["east", "north", "west"].contains(&name) {
        return "<peer>".to_owned();
    }
    let waves = Wave::ALL.map(|wave| wave.to_string());
    let parts = name.split('-').map(|part| match part {
        "east" | "north" | "west" if name.starts_with("istio-remote-secret") => "<peer>",
        "east" | "north" | "west" => "<cluster>",
        "shop" => "<mesh>",
        part if waves.iter().any(|wave| wave == part) && name.starts_with("isthmus-") => "<wave>",
        part => part,
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Names of labels or annotations, of an object and of its pods.
fn marked(object: &Value, kind: &str) -> Vec<String> {
    let places = ["/metadata", "/spec/template/metadata"];
    let maps = places.iter().filter_map(|place| object.pointer(&format!("{place}/{kind}"))?.as_object());
    maps.flat_map(|map| map.keys().cloned()).collect()
}

#[track_caller]
fn same(found: &BTreeSet<String>, listed: impl Iterator<Item = String>) {
    let listed: BTreeSet<String> = listed.collect();
    let (missing, gone): (Vec<_>, Vec<_>) = (found.difference(&listed).collect(), listed.difference(found).collect());
    assert!(
        missing.is_empty() && gone.is_empty(),
        "tests/reference/names.rs: not listed: {missing:?}; no longer there: {gone:?}"
    );
}

fn of_roles() -> Vec<[String; 4]> {
    let secret = |name: &str| constants::text("roles/relay/key_secret.rs", name);
    let keys = ["KEY", "CA", "CA_KEY"].map(|name| code(&secret(name))).join(", ");
    let mut rows = vec![
        [code(IDENTITY), "ConfigMap".to_owned(), code(IDENTITY_FILE), "Whom exporter and api-proxy serve".to_owned()],
        [code(&secret("AUTHN")), "Secret".to_owned(), keys, "The cluster's private key and its serving CA".to_owned()],
    ];
    for (service, whose) in [(EXPORTER, "the exporter"), (PROXY, "the api-proxy"), (RELAY, "the relay")] {
        let about = format!("Serving certificate of {whose}");
        rows.push([code(&tls_secret(service)), "Secret".to_owned(), "`tls.crt`, `tls.key`".to_owned(), about]);
    }
    rows
}

fn ports(objects: &[Value]) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    for object in objects.iter().filter(|object| object["kind"] == "Service") {
        for port in object["spec"]["ports"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = object["metadata"]["name"].as_str().unwrap();
            let target = port.get("targetPort").map(text).unwrap_or_default();
            let number =
                object_of(objects, "Deployment", name).and_then(|deployment| container_port(deployment, &target));
            rows.push([
                code(name),
                text(&port["port"]),
                port.get("name").map(text).unwrap_or_default(),
                number.unwrap_or(target),
            ]);
        }
    }
    rows
}

fn object_of<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn container_port(deployment: &Value, name: &str) -> Option<String> {
    let ports = deployment.pointer("/spec/template/spec/containers/0/ports")?.as_array()?;
    ports.iter().find(|port| port["name"] == name).map(|port| port["containerPort"].to_string())
}
