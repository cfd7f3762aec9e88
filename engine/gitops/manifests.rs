//! What Argo CD and Flux are told about a checkout: the plugin and its sidecar, Applications, Kustomizations.
//!
//! The objects of a cluster carry the sync waves of [`needs`](crate::model::needs). Argo CD applies them in that order and
//! prunes in the opposite one. Flux knows no waves, so each cluster gets one Kustomization a wave, each after the last.
//! None of what is here may delete a cluster's objects as a side effect: a cluster leaves by `state: leaving`, step by step,
//! and an Application or Kustomization that goes away leaves behind what it applied.

use serde_json::{Map, Value, json};

use crate::gitops::argocd::PLUGIN;
use crate::model::layout::{KUSTOMIZATION, rendered_folder};
use crate::model::mesh::{Cluster, Mesh};
use crate::model::needs::Wave;
use crate::types::name::{ClusterName, Digest};
use crate::types::object::PART_OF;
use crate::types::object::{MESH_LABEL, Object, SYNC_WAVE, YamlError, to_yaml};

/// Name of the `ConfigMap` that holds `plugin.yaml`.
const PLUGIN_CONFIG: &str = "isthmus-plugin";
/// The user as whom Argo CD's plugin server runs (Argo CD, "Config Management Plugins").
const PLUGIN_USER: u32 = 999;

/// Where the checkout lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// URL of the repository.
    pub repository: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Folder of the checkout in the repository, without `/` at either end; empty for its root.
    pub path: String,
}

impl GitSource {
    /// A folder of the checkout in the repository; `.` for the root.
    fn folder(&self, below: &str) -> String {
        match (self.path.as_str(), below) {
            ("", "") => ".".to_owned(),
            (path, "") => path.to_owned(),
            ("", below) => below.to_owned(),
            (path, below) => format!("{path}/{below}"),
        }
    }
}

/// What Argo CD syncs a cluster from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    Plugin,
    /// The folder `rendered/<cluster>/`.
    Directory,
}

/// A cluster and what Argo CD or Flux calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination<'a> {
    pub cluster: &'a Cluster,
    /// Argo CD: the cluster's name there, or the URL of its apiserver. Flux: the Secret with its kubeconfig; `None` is the cluster
    /// that Flux runs in.
    pub name: Option<String>,
}

/// Argo CD's `plugin.yaml`. It has no `discover` block: an Application names the plugin, and nothing else is ever offered to
/// it; with one, Argo CD would send the whole repository twice.
pub fn plugin() -> Result<String, YamlError> {
    to_yaml(&json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ConfigManagementPlugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "generate": {"command": ["engine"], "args": ["argocd", "generate"]},
            "parameters": {"dynamic": {"command": ["engine"], "args": ["argocd", "parameters"]}},
            "preserveFileMode": false,
            "provideGitCreds": false,
        },
    }))
}

/// The `ConfigMap` with the plugin's configuration.
pub fn plugin_config(namespace: &str) -> Result<Object, YamlError> {
    let metadata = json!({
        "name": PLUGIN_CONFIG, "namespace": namespace,
        "labels": {PART_OF: "argocd", "app.kubernetes.io/name": PLUGIN_CONFIG},
    });
    Ok(object("v1", "ConfigMap", metadata, vec![("data", json!({"plugin.yaml": plugin()?}))]))
}

/// What `argocd-repo-server` gets beside its own container: a strategic merge patch of the Deployment that is there. It must
/// not be applied, not even server-side: kubectl would first take over the fields of whoever installed Argo CD with a plain
/// `kubectl apply`, and then drop those that are not in here.
///
/// The sidecar has its own `/tmp`, since a shared one lets plugins read each other's checkouts; no way to write elsewhere;
/// and an empty folder where the token of the pod's `ServiceAccount` would be, because the admission controller mounts none
/// over what a container mounts itself. The annotation changes with the plugin's configuration, which is read at start alone.
pub fn sidecar(namespace: &str, image: &str) -> Result<Object, YamlError> {
    let container = json!({
        "name": PLUGIN,
        "image": image,
        "command": ["/var/run/argocd/argocd-cmp-server"],
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": PLUGIN_USER, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [
            {"name": "var-files", "mountPath": "/var/run/argocd"},
            {"name": "plugins", "mountPath": "/home/argocd/cmp-server/plugins"},
            {"name": PLUGIN_CONFIG, "mountPath": "/home/argocd/cmp-server/config", "readOnly": true},
            {"name": "isthmus-tmp", "mountPath": "/tmp"},
            {"name": "isthmus-no-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
    });
    let pod = json!({
        "metadata": {"annotations": {"isthmus.dev/plugin": Digest::of(plugin()?.as_bytes()).to_string()}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [container],
            "volumes": [
                {"name": PLUGIN_CONFIG, "configMap": {"name": PLUGIN_CONFIG}},
                {"name": "isthmus-tmp", "emptyDir": {}},
                {"name": "isthmus-no-token", "emptyDir": {}},
            ],
        },
    });
    let metadata = json!({"name": "argocd-repo-server", "namespace": namespace});
    Ok(object("apps/v1", "Deployment", metadata, vec![("spec", json!({"template": pod}))]))
}

/// What Argo CD knows a cluster by: its name there, or the URL of its apiserver. It takes one of the two.
struct ArgocdCluster {
    name: String,
    server: String,
}

impl ArgocdCluster {
    /// The cluster's own name, unless Argo CD was told another, or has a URL for it.
    fn of(destination: &Destination<'_>) -> Self {
        match &destination.name {
            Some(server) if server.contains("://") => Self { name: String::new(), server: server.clone() },
            Some(name) => Self { name: name.clone(), server: String::new() },
            None => Self { name: destination.cluster.name.to_string(), server: String::new() },
        }
    }

    fn fields(&self, namespace: &str) -> Value {
        let mut fields = Map::new();
        if !self.server.is_empty() {
            fields.insert("server".to_owned(), self.server.as_str().into());
        }
        if !self.name.is_empty() {
            fields.insert("name".to_owned(), self.name.as_str().into());
        }
        fields.insert("namespace".to_owned(), namespace.into());
        fields.into()
    }
}

/// The Application of one cluster, or its template.
struct Application<'a> {
    cluster: &'a str,
    destination: ArgocdCluster,
    namespace: &'a str,
}

impl Application<'_> {
    fn metadata(&self, mesh: &Mesh) -> Map<String, Value> {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), format!("isthmus-{}", self.cluster).into());
        metadata.insert("labels".to_owned(), json!({ MESH_LABEL: mesh.name }));
        // relative to the source's path: what changes elsewhere in the repository generates nothing anew
        metadata.insert("annotations".to_owned(), json!({"argocd.argoproj.io/manifest-generate-paths": "."}));
        metadata
    }

    fn spec(&self, source: &GitSource, sync: Sync, project: &str) -> Value {
        let mut from = json!({"repoURL": source.repository, "targetRevision": source.revision});
        let (path, kind, how) = match sync {
            Sync::Plugin => {
                let parameters = json!([{"name": "cluster", "string": self.cluster}]);
                (source.folder(""), "plugin", json!({"name": PLUGIN, "parameters": parameters}))
            }
            // the kustomization is no object, and Kustomize would not take an empty one
            Sync::Directory => {
                let folder = source.folder(&rendered_folder(self.cluster));
                (folder, "directory", json!({"exclude": KUSTOMIZATION}))
            }
        };
        if let Some(fields) = from.as_object_mut() {
            fields.insert("path".to_owned(), path.into());
            fields.insert(kind.to_owned(), how);
        }
        json!({
            "project": project,
            "source": from,
            "destination": self.destination.fields(self.namespace),
            "syncPolicy": {
                // the plugin answers with nothing for a cluster that has left and for no other; a folder may be empty by mistake
                "automated": {"prune": true, "selfHeal": true, "allowEmpty": sync == Sync::Plugin},
                // client-side apply keeps a copy of the object in an annotation, for which ours grow too large
                "syncOptions": ["ServerSideApply=true", "FailOnSharedResource=true"],
                "retry": {"limit": 5, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "5m"}},
            },
        })
    }
}

/// The Application of one cluster.
pub fn application(
    mesh: &Mesh,
    source: &GitSource,
    sync: Sync,
    (namespace, project): (&str, &str),
    destination: &Destination<'_>,
) -> Object {
    let one = Application {
        cluster: destination.cluster.name.as_str(),
        destination: ArgocdCluster::of(destination),
        namespace: destination.cluster.istio.namespace.as_str(),
    };
    let mut metadata = one.metadata(mesh);
    metadata.insert("namespace".to_owned(), namespace.into());
    object("argoproj.io/v1alpha1", "Application", metadata.into(), vec![("spec", one.spec(source, sync, project))])
}

/// One Application for each of these clusters.
pub fn application_set(
    mesh: &Mesh,
    source: &GitSource,
    sync: Sync,
    (namespace, project): (&str, &str),
    destinations: &[Destination<'_>],
) -> Object {
    let places: Vec<ArgocdCluster> = destinations.iter().map(ArgocdCluster::of).collect();
    let some_by_name = places.iter().any(|place| !place.name.is_empty());
    let some_by_url = places.iter().any(|place| !place.server.is_empty());
    let element = |(destination, place): (&Destination<'_>, &ArgocdCluster)| {
        let cluster = destination.cluster;
        let mut fields = Map::new();
        fields.insert("cluster".to_owned(), cluster.name.as_str().into());
        // a template's parameter has to be there for each; Argo CD takes an empty one for none
        if some_by_name {
            fields.insert("destination".to_owned(), place.name.as_str().into());
        }
        if some_by_url {
            fields.insert("server".to_owned(), place.server.as_str().into());
        }
        fields.insert("namespace".to_owned(), cluster.istio.namespace.as_str().into());
        Value::Object(fields)
    };
    let elements: Vec<Value> = destinations.iter().zip(&places).map(element).collect();
    let parameter = |wanted: bool, text: &str| if wanted { text.to_owned() } else { String::new() };
    let destination = ArgocdCluster {
        name: parameter(some_by_name, "{{.destination}}"),
        server: parameter(some_by_url, "{{.server}}"),
    };
    let each = Application { cluster: "{{.cluster}}", destination, namespace: "{{.namespace}}" };
    let spec = json!({
        "goTemplate": true,
        "goTemplateOptions": ["missingkey=error"],
        "generators": [{"list": {"elements": elements}}],
        // a cluster that is taken from the list keeps its objects: leaving is a matter of the specs
        "syncPolicy": {"preserveResourcesOnDeletion": true},
        "template": {"metadata": each.metadata(mesh), "spec": each.spec(source, sync, project)},
    });
    let metadata = json!({
        "name": format!("isthmus-{}", mesh.name), "namespace": namespace, "labels": { MESH_LABEL: mesh.name },
    });
    object("argoproj.io/v1alpha1", "ApplicationSet", metadata, vec![("spec", spec)])
}

/// Flux's source of a checkout. `secret` holds credentials for the repository.
pub fn git_repository(mesh: &Mesh, source: &GitSource, namespace: &str, secret: Option<&str>) -> Object {
    let is_commit = source.revision.len() == 40 && source.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    let reference = match source.revision.as_str() {
        revision if revision.starts_with("refs/") => "name",
        _ if is_commit => "commit",
        _ => "branch",
    };
    let mut spec =
        json!({"interval": "1m", "timeout": "1m", "url": source.repository, "ref": { reference: source.revision }});
    if let (Some(fields), Some(secret)) = (spec.as_object_mut(), secret) {
        fields.insert("secretRef".to_owned(), json!({"name": secret}));
    }
    let metadata = json!({
        "name": format!("isthmus-{}", mesh.name), "namespace": namespace, "labels": { MESH_LABEL: mesh.name },
    });
    object("source.toolkit.fluxcd.io/v1", "GitRepository", metadata, vec![("spec", spec)])
}

/// A cluster's Kustomizations: one a wave, each of which begins when the last is ready. They share a folder; each takes out
/// of it what belongs to the others.
pub fn kustomizations(mesh: &Mesh, source: &GitSource, namespace: &str, destination: &Destination<'_>) -> Vec<Object> {
    let cluster = &destination.cluster.name;
    let mut before: Option<String> = None;
    let mut objects = Vec::with_capacity(Wave::ALL.len());
    for wave in Wave::ALL {
        let name = format!("isthmus-{cluster}-{wave}");
        let mut spec = json!({
            "interval": "10m",
            "retryInterval": "1m",
            "timeout": "5m",
            "sourceRef": {"kind": "GitRepository", "name": format!("isthmus-{}", mesh.name)},
            "path": format!("./{}", source.folder(&rendered_folder(cluster))),
            "patches": [not_of_wave(wave)],
            "prune": true,
            "wait": true,
            "deletionPolicy": "Orphan",
        });
        if let Some(fields) = spec.as_object_mut() {
            if let Some(before) = before.replace(name.clone()) {
                fields.insert("dependsOn".to_owned(), json!([{"name": before}]));
            }
            if let Some(secret) = &destination.name {
                fields.insert("kubeConfig".to_owned(), json!({"secretRef": {"name": secret}}));
            }
        }
        let metadata = json!({"name": name, "namespace": namespace, "labels": { MESH_LABEL: mesh.name }});
        objects.push(object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", metadata, vec![("spec", spec)]));
    }
    objects
}

/// Kustomize's patch that takes every object of another wave away. The patch has to name an object; its target decides.
fn not_of_wave(wave: Wave) -> Value {
    json!({
        "target": {"annotationSelector": format!("{SYNC_WAVE}!={}", wave.number())},
        "patch": "$patch: delete\napiVersion: v1\nkind: Any\nmetadata:\n  name: any\n",
    })
}

/// Name of the Secret with a cluster's kubeconfig, as Cluster API names it.
pub fn kubeconfig_secret(cluster: &ClusterName) -> String {
    format!("{cluster}-kubeconfig")
}

fn object(api_version: &str, kind: &str, metadata: Value, fields: Vec<(&str, Value)>) -> Object {
    let mut all: Map<String, Value> = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    all.insert("metadata".to_owned(), metadata);
    Object { api_version: api_version.to_owned(), kind: kind.to_owned(), fields: all }
}
