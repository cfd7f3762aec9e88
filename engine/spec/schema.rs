//! The JSON Schema of the documents: what editors complete and check. The engine's own reading is the authority; it also
//! knows the grammar of names and what concerns several documents.

#![allow(clippy::needless_pass_by_value, reason = "json! takes what it is given apart")]

use serde_json::{Value, json};

use crate::spec::document::{
    ALLOW, API, CLUSTER, CONFIGS, CRDS, CREDENTIALS, DECKHOUSE_API, DOCUMENT, EVIDENCE, EVIDENCE_FIELDS, EXPOSES,
    FIRST_CONTACTS, GATEWAY, ISTIO, MESH, METADATA, MULTICLUSTER, PEER, PIN, RECONCILERS, SHARE, STATES,
    TRAFFIC_POLICIES,
};
use crate::spec::policy::{CLUSTERS, IMAGES, POLICY, POLICY_DOCUMENT, ROOT_CHANGES};
use crate::types::name::NamespacePattern;
use crate::types::token::Scope;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
const LABEL: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
const NAMESPACE_PATTERN: &str = r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$";
const LABEL_VALUE: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
const DNS_NAME: &str = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$";
const UUID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
const TRUST_DOMAIN: &str = "^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$";
const DIGEST: &str = "^sha256:[0-9a-f]{64}$";
const PATH: &str = r"^(?!/)(?!.*(^|/)\.{0,2}(/|$))[^\\]+$";

/// JSON Schema (draft 2020-12) of one document below `specs/`.
pub fn schema() -> Value {
    json!({
        "$schema": DRAFT,
        "title": "A document below specs/: Mesh, Cluster or IstioMulticluster",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "enum": [API, DECKHOUSE_API] },
            "kind": { "enum": ["Mesh", "Cluster", "IstioMulticluster"] },
        },
        "oneOf": [
            document("Mesh", json!({ "const": API }), metadata(false), mesh()),
            document("Cluster", json!({ "const": API }), metadata(false), cluster()),
            document("IstioMulticluster", json!({ "const": API }), metadata(true), peer(true)),
            document("IstioMulticluster", json!({ "const": DECKHOUSE_API }), metadata(true), peer(false)),
        ],
    })
}

/// JSON Schema (draft 2020-12) of `policy.yaml`.
pub fn policy_schema() -> Value {
    let images = json!({
        "allow": many(
            text(r"^([a-z0-9-]*[.:][a-z0-9.:-]*|localhost)/(\*|[a-z0-9._/-]*[a-z0-9._-](/\*)?)$", "a repository with its registry, or with /* all below a path"),
            "images of exporter, api-proxy and relay; tags and digests are not looked at",
        ),
        "requireDigest": flag(false, "images end with @sha256:…"),
    });
    let clusters = json!({
        "uuids": many(text(UUID, "UID of the namespace kube-system"), "clusters that may be in the mesh"),
        "hosts": many(plain("a host, or `*.` and a domain"), "hosts of endpoints and api-proxies"),
        "trustDomains": many(text(TRUST_DOMAIN, "a trust domain"), "trust domains of clusters"),
        "rootCAs": many(text(DIGEST, "SHA-256 of the DER of a root"), "root CAs that clusters may publish"),
        "reconcilers": many(choice(RECONCILERS), "who may act in a cluster"),
        "namespaces": many(text(LABEL, "a namespace"), "istio.namespace of clusters of this checkout"),
        "scopes": many(json!({ "enum": Scope::ALL.map(Scope::as_str) }), "what further keys of a cluster may ask for"),
        "withoutEvidence": many(text(LABEL, "name of a cluster"), "clusters that may do without evidence"),
    });
    let spec = json!({
        "images": described(object(IMAGES, &[], images), "which images the roles may have"),
        "clusters": described(object(CLUSTERS, &[], clusters), "which clusters may be in the mesh, and what they may publish; a list that is left out admits all"),
        "engineKeys": many(text(DIGEST, "SHA-256 of the SubjectPublicKeyInfo of a key"), "the engine's own keys"),
        "firstContact": one_of(FIRST_CONTACTS, "tls", "firstContact of the Mesh"),
        "rootChanges": one_of(ROOT_CHANGES, "review", "review: a root CA that a cluster publishes anew waits until it is accepted"),
    });
    let mut schema = object(
        POLICY_DOCUMENT,
        POLICY_DOCUMENT,
        json!({ "apiVersion": { "const": API }, "kind": { "const": "Policy" }, "spec": object(POLICY, &[], spec) }),
    );
    if let Some(fields) = schema.as_object_mut() {
        let title = "policy.yaml: what specs may ask for, and which clusters may be in the mesh";
        fields.extend([("$schema".to_owned(), DRAFT.into()), ("title".to_owned(), title.into())]);
    }
    schema
}

/// An object with exactly these fields. `known` are those that the reading knows, in which the schema must agree.
fn object(known: &[&str], required: &[&str], properties: Value) -> Value {
    debug_assert!(
        properties
            .as_object()
            .is_some_and(|all| { all.len() == known.len() && known.iter().all(|field| all.contains_key(*field)) }),
        "the schema has other fields than {known:?}"
    );
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

/// The same with what it is for.
fn described(mut schema: Value, description: &str) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), description.into());
    }
    schema
}

fn one_of<T>(choices: &[(&str, T)], default: &str, description: &str) -> Value {
    let names: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    json!({ "enum": names, "default": default, "description": description })
}

fn choice<T>(choices: &[(&str, T)]) -> Value {
    json!({ "enum": choices.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
}

fn text(pattern: &str, description: &str) -> Value {
    json!({ "type": "string", "pattern": pattern, "description": description })
}

fn plain(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": description })
}

fn flag(default: bool, description: &str) -> Value {
    json!({ "type": "boolean", "default": default, "description": description })
}

fn many(item: Value, description: &str) -> Value {
    json!({ "type": "array", "items": item, "description": description })
}

fn document(kind: &str, api: Value, metadata: Value, spec: Value) -> Value {
    object(
        DOCUMENT,
        DOCUMENT,
        json!({ "apiVersion": api, "kind": { "const": kind }, "metadata": metadata, "spec": spec }),
    )
}

fn metadata(of_kubernetes: bool) -> Value {
    let name = text(LABEL, "a DNS-1123 label: at most 63 of a-z, 0-9 and -");
    if of_kubernetes {
        let more = json!({ "name": name, "namespace": plain("ignored"), "labels": { "description": "ignored" }, "annotations": { "description": "ignored" } });
        return object(&["name", "namespace", "labels", "annotations"], &["name"], more);
    }
    object(&["name"], &["name"], json!({ "name": name }))
}

fn mesh() -> Value {
    let credentials = json!({
        "mode": {
            "enum": ["relay"],
            "default": "relay",
            "description": "through the cluster's own relay; nothing in git is secret",
        },
        "requireToken": json!({ "type": "boolean", "description": "istiod shows the relay a token of its ServiceAccount, from a volume that istiod must be given; default: where istiod has it when the cluster's first link opens" }),
    });
    let engine_key = json!({
        "id": text("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$", "the key's id"),
        "publicKey": plain("its public half, PEM"),
    });
    let pair = json!({ "type": "array", "items": text(LABEL, "name of a cluster"), "minItems": 2, "maxItems": 2 });
    object(
        MESH,
        &[],
        json!({
            "meshID": text(LABEL_VALUE, "global.meshID of Istio; default: metadata.name"),
            "topology": {
                "enum": ["full", "pairs"],
                "default": "full",
                "description": "full: all clusters with all; pairs: those in `pairs`",
            },
            "pairs": many(pair, "with topology: pairs, the two clusters of each link"),
            "acceptForeignRoots": flag(false, "must be true with two clusters or more: every root can sign every identity of every accepted trust domain"),
            "firstContact": one_of(FIRST_CONTACTS, "tls", "tls: naming an endpoint whose TLS verifies is the approval; approve: ask there too"),
            "credentials": described(object(CREDENTIALS, &[], credentials), "how an istiod reads the apiservers of its peers"),
            "engineKeys": many(object(&["id", "publicKey"], &["id", "publicKey"], engine_key), "the engine's own keys; default: those of lock/mesh.yaml"),
            "requiredEngine": text(r"^[0-9]+\.[0-9]+$", "refuse other minor versions of the engine, for example \"0.1\""),
            "settle": duration("1h", "how long each stage of leaving takes where no evidence can show that it is over, and how long a Deckhouse is waited for to read first"),
            "rootOverlap": duration("25h", "how long a root CA stays trusted after its cluster published it last; at least the longest life of its workloads' certificates"),
        }),
    )
}

fn cluster() -> Value {
    let multicluster = json!({
        "enabled": flag(true, "deploy exporter, api-proxy and relay or agent; only with reconciler rendered or agent"),
        "image": plain("image of the engine"),
        "replicas": { "type": "integer", "minimum": 1, "maximum": 100, "default": 2, "description": "replicas of each of them" },
        "expose": one_of(EXPOSES, "LoadBalancer", "how exporter and api-proxy are reached from outside; ClusterIP: behind an ingress of your own that passes TLS through; Gateway: through the east-west gateway, at its port 15443, by the names in metadata.endpoint and apiHost"),
        "externalTrafficPolicy": one_of(TRAFFIC_POLICIES, "Local", "of their Services: with Local they see their clients' addresses, by which limits count; default: Local behind a load balancer, Cluster at node ports"),
        "trustedProxies": many(plain("an address, or a range in CIDR notation"), "load balancers that send a PROXY header (version 1 or 2) in front of TLS; their connections without one are closed"),
        "clusterCIDRs": many(plain("an address, or a range in CIDR notation"), "pod and service ranges of the cluster, which its relay never dials"),
        "admissionPolicy": flag(true, "a ValidatingAdmissionPolicy (Kubernetes 1.30) holds the relay's account to the Secrets and the ConfigMap that it makes"),
        "apiHost": plain("the api-proxy's public address, `host` or `host:port`"),
        "tlsSecret": text(DNS_NAME, "Secret with the serving certificate; else the cluster's own serving CA issues one"),
    });
    let endpoint = text("^(https|file)://.+$", "https://…, or file:// and a folder below the checkout");
    let istio = json!({
        "namespace": { "type": "string", "pattern": LABEL, "description": "default: istio-system, in a deckhouse cluster d8-istio" },
        "revisions": {
            "type": "array", "minItems": 1, "default": ["default"],
            "items": text(LABEL, "a revision of the control plane"),
        },
        "config": one_of(CONFIGS, "sharedMeshConfig", "where roots and networks are written"),
        "dnsCapture": flag(true, "proxies capture DNS, so that services of peers resolve"),
        "prepared": flag(false, "attests that istiod and all proxies are prepared"),
        "standardMeshNetworks": {
            "oneOf": [{ "const": "none" }, { "type": "object" }],
            "description": "`meshNetworks` of Istio's standard configuration by name, where the cluster shows no evidence; ours take them up",
        },
    });
    let gateway = json!({
        "address": plain("IP address or DNS name"),
        "port": { "type": "integer", "minimum": 1, "maximum": 65535, "default": 15443, "description": "port for traffic of peers, mTLS with SNI routing" },
    });
    object(
        CLUSTER,
        &["metadata"],
        json!({
            "mesh": text(LABEL, "name of its Mesh; may be left out, since a checkout has one"),
            "reconciler": one_of(RECONCILERS, "rendered", "rendered: a GitOps tool syncs what the engine renders; agent: the engine inside the cluster reconciles IstioMulticluster objects; deckhouse: Deckhouse's own module; external: another team's checkout"),
            "state": state(),
            "multicluster": described(object(MULTICLUSTER, &[], multicluster), "exporter, api-proxy and relay of the cluster"),
            "metadata": described(object(METADATA, &["endpoint"], json!({
                "endpoint": endpoint,
                "ca": ca("the only roots trusted for the endpoint"),
                "crd": one_of(CRDS, "v1alpha1", "which IstioMulticluster a deckhouse cluster reads: v1alpha1 has spec.metadataEndpoint, v1alpha1-old spec.metadata.endpoint"),
            })), "where the cluster publishes its metadata"),
            "pin": pin(),
            "clusterDomain": { "type": "string", "pattern": DNS_NAME, "default": "cluster.local", "description": "DNS domain of the cluster" },
            "clusterID": {
                "type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$", "not": { "const": "Kubernetes" },
                "description": "default: what the cluster publishes",
            },
            "network": text(LABEL_VALUE, "default: what the cluster publishes"),
            "trustDomain": text(TRUST_DOMAIN, "default: what the cluster publishes"),
            "mergeTrustDomains": {
                "type": "boolean",
                "description": "true: AuthorizationPolicies take identities of its peers' trust domains for its own (trustDomainAliases), which Istio below 1.29 needs; false: they do not, and what was merged is so no longer; default: no new link merges them",
            },
            "istio": described(object(ISTIO, &[], istio), "the cluster's istiod and how it is configured"),
            "gateway": described(
                object(GATEWAY, &[], json!({
                    "manage": flag(false, "a Gateway of class istio is rendered, of which Istio makes Deployment and Service; network has to be stated. Where a gateway is deployed otherwise, leave it false"),
                })),
                "the east-west gateway of the cluster",
            ),
            "gateways": many(object(&["address", "port"], &["address"], gateway), "override of the published gateways"),
            "flatNetwork": flag(false, "pods reach each other without a gateway"),
            "api": described(object(&["host", "ca"], &[], json!({ "host": plain("override of the published api host"), "ca": ca("override of the published CA") })), "how peers reach the api-proxy"),
            "share": share("which namespaces its peers see; the control plane's kube-system only where it is not in except"),
            "shareWith": {
                "description": "the same for single peers, by name; what is left out is as in share",
                "type": "object",
                "propertyNames": text(LABEL, "name of a peer"),
                "additionalProperties": share("what this peer sees"),
            },
            "allow": allow(),
            "evidence": evidence(),
            "settle": duration("1h", "how long each stage of leaving takes where no evidence can show that it is over, and how long a Deckhouse is waited for to read first; default: that of the Mesh"),
            "rootOverlap": duration("25h", "how long a root CA stays trusted after the cluster published it last; default: that of the Mesh"),
            "distrust": many(text(DIGEST, "SHA-256 of the DER of a root"), "root CAs that are trusted no longer, at once and whatever the cluster publishes"),
        }),
    )
}

fn state() -> Value {
    one_of(
        STATES,
        "active",
        "paused: kept as it is, not contacted; leaving: on its way out, step by step; lost: gone for good, what it reads and what is read of it counts as closed",
    )
}

fn allow() -> Value {
    let allow = json!({
        "apiHosts": many(plain("a host, or `*.` and a domain"), "hosts its api-proxy may have"),
        "addresses": many(plain("an address, or a range in CIDR notation"), "ranges its gateways and endpoint must lie in"),
    });
    described(object(ALLOW, &[], allow), "addresses that the cluster may publish; any other is a trust change")
}

fn ca(description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": { "file": text(PATH, "path below the checkout"), "inline": plain("PEM") },
    })
}

fn share(description: &str) -> Value {
    let patterns = |default: &str, description: &str| {
        json!({
            "type": "array", "maxItems": NamespacePattern::MOST, "default": [default], "description": description,
            "items": {
                "type": "string", "pattern": NAMESPACE_PATTERN, "not": { "pattern": r"\*\*" },
                "description": "a namespace, or a pattern in which * stands for any characters",
            },
        })
    };
    let properties = json!({
        "namespaces": patterns("*", "namespaces that are shared"),
        "except": patterns("kube-system", "namespaces that are not, whatever else says so"),
    });
    let mut share = object(SHARE, &[], properties);
    if let Some(fields) = share.as_object_mut() {
        fields.insert("description".to_owned(), description.into());
    }
    share
}

fn pin() -> Value {
    let pin = json!({
        "clusterUUID": text(UUID, "UID of the namespace kube-system"),
        "authnKey": text(DIGEST, "SHA-256 of the SubjectPublicKeyInfo of the cluster's key"),
        "rootCA": many(text(DIGEST, "SHA-256 of the DER of a root"), "its root CAs"),
    });
    described(object(PIN, &[], pin), "values that the cluster must publish; anything else is refused")
}

fn duration(default: &str, description: &str) -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+[smh]$", "default": default, "description": description })
}

fn evidence() -> Value {
    let fields: Vec<&str> = EVIDENCE_FIELDS.iter().map(|(word, _)| *word).collect();
    let attested = json!({ "attested": many(json!({ "enum": fields }), "fields that the spec attests, such as those behind a closed debug port") });
    json!({
        "description": "required: links wait for what the cluster shows to be live; none: it shows nothing; default: required, none for a file:// endpoint and for Deckhouse",
        "oneOf": [{ "enum": EVIDENCE.iter().map(|(word, _)| *word).collect::<Vec<_>>() }, object(&["attested"], &["attested"], attested)],
    })
}

/// `strict`: unknown fields are errors; those of Deckhouse may be newer than this engine.
fn peer(strict: bool) -> Value {
    let inner = json!({
        "ca": plain("PEM"),
        "insecureSkipVerify": { "const": false, "description": "true is refused" },
    });
    let inner = object(&["ca", "insecureSkipVerify"], &[], inner);
    let mut metadata = described(inner, "TLS of the metadata endpoint");
    let own = |schema: Value| {
        if strict { schema } else { json!({ "description": "not known to Deckhouse, and not read here" }) }
    };
    let properties = json!({
        "metadataEndpoint": text("^(https|file)://.+$", "the peer's metadata"),
        "enableIngressGateway": flag(true, "false: pods reach each other without a gateway"),
        "metadata": {},
        "state": own(state()),
        "pin": own(pin()),
        "share": own(share("which namespaces of this checkout's clusters the peer sees; default: as they share with all")),
        "allow": own(allow()),
        "evidence": own(evidence()),
    });
    let mut spec = object(PEER, &["metadataEndpoint"], properties);
    for value in [&mut metadata, &mut spec] {
        if let Some(all) = value.as_object_mut().filter(|_| !strict) {
            all.remove("additionalProperties");
        }
    }
    if !strict {
        // revisions of Deckhouse's CRD have the endpoint in one place or the other
        if let Some(fields) = metadata.pointer_mut("/properties").and_then(Value::as_object_mut) {
            fields
                .insert("endpoint".to_owned(), text("^(https|file)://.+$", "the same, in other revisions of the CRD"));
        }
        if let Some(fields) = spec.as_object_mut() {
            let within =
                json!({ "required": ["metadata"], "properties": { "metadata": { "required": ["endpoint"] } } });
            fields.insert("required".to_owned(), json!([]));
            fields.insert("anyOf".to_owned(), json!([{ "required": ["metadataEndpoint"] }, within]));
        }
    }
    if let Some(slot) = spec.pointer_mut("/properties/metadata") {
        *slot = metadata;
    }
    spec
}
