//! Exporter, api-proxy, relay and the east-west gateway: component templates with the values of one cluster.
//!
//! Most templates depend on few values, so their objects are made once for all clusters that agree on them, and for all runs of a
//! process while the templates are the same.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::istio::mesh_config::standard_config_map;
use crate::model::mesh::{Components, Expose, Reconciler};
use crate::pipeline::render::check::internal;
use crate::pipeline::render::memo::Memo;
use crate::pipeline::render::mesh_config::{gateway_hosts, own_network};
use crate::pipeline::render::output::RenderedCluster;
use crate::pipeline::render::reader::ReaderView;
use crate::pipeline::render::rendered::RenderedObject;
use crate::pipeline::render::templated::{TemplatedText, adopted, steps_of};
use crate::pipeline::render::text_template::{NAME, TextTemplate};
use crate::pipeline::template::{Overridden, Rendition, Templates};
use crate::types::address::{Endpoint, Host};
use crate::types::diagnostic::Diagnostics;
use crate::types::name::{MeshName, Revision};
use crate::types::object::{Object, ObjectId};
use crate::wire::agent::AGENT;
use crate::wire::names::{AGENT_ROLES, EXPORTER, PROXY, RELAY, ROLES, service_host, tls_secret};

/// Files of every component, below its folder.
const FILES: [&str; 6] = [
    "deployment.yaml",
    "networkpolicy.yaml",
    "poddisruptionbudget.yaml",
    "rbac.yaml",
    "service.yaml",
    "serviceaccount.yaml",
];

/// Those that an agent has beside them.
const AGENT_FILES: [&str; 1] = ["customresourcedefinition.yaml"];

/// The east-west gateway.
const GATEWAY: &str = "gateway/gateway.yaml";
/// How it leads to exporter and api-proxy.
const EXPOSED: &str = "gateway/expose.yaml";

/// Where the serving certificate is mounted.
const TLS: &str = "/etc/isthmus/tls";

/// Most renditions that are kept for the next run: some megabytes.
const MAX_KEPT: usize = 1024;

/// The mesh, a template's name and the values it got, as JSON.
type TemplateKey = (MeshName, String, String);

/// Templates of components, and what they rendered so far.
#[derive(Debug, Clone)]
pub struct ComponentTemplates {
    templates: Templates,
    rendered: Arc<Memo<TemplateKey, Arc<Templated>>>,
}

impl From<Templates> for ComponentTemplates {
    fn from(templates: Templates) -> Self {
        Self { templates, rendered: Arc::default() }
    }
}

impl ComponentTemplates {
    /// Templates that know what those of the run before rendered, if they are the same and that is not too much to keep.
    pub(crate) fn after(before: Option<&Self>, templates: Templates) -> Self {
        let same = before.filter(|before| before.templates == templates && before.rendered.len() <= MAX_KEPT);
        let rendered = same.map(|before| before.rendered.clone()).unwrap_or_default();
        Self { templates, rendered }
    }
}

/// What a template renders for all clusters with the same values.
#[derive(Debug)]
pub(super) struct Templated {
    made: Vec<TemplateObject>,
    overridden: Option<(Arc<str>, Vec<Overridden>)>,
}

/// An object of a template, and its text but for the cluster's name.
#[derive(Debug)]
struct TemplateObject {
    object: Arc<Object>,
    id: ObjectId,
    yaml: Option<TextTemplate>,
}

/// What a template renders with these values.
fn templated(
    templates: &ComponentTemplates,
    mesh: &MeshName,
    name: String,
    values: &Map<String, Value>,
) -> Result<Arc<Templated>, Diagnostics> {
    let key = serde_json::to_string(values).map_err(internal)?;
    templates.rendered.get((mesh.clone(), name, key), |(_, name, _)| {
        let stand_in = NAME.parse().map_err(internal)?;
        let Rendition { objects, overridden } = templates.templates.render(name, values)?;
        let mut made = Vec::new();
        for object in objects {
            let text = adopted(mesh, object.clone(), &steps_of(&stand_in), &[]).to_yaml().map_err(internal)?;
            let (id, yaml) = (object.id(), TextTemplate::cut(&text, &[(NAME, 1)]));
            made.push(TemplateObject { object: Arc::new(object), id, yaml });
        }
        Ok(Arc::new(Templated { made, overridden }))
    })
}

/// Renders the components of a cluster that has them. Without an image there is nothing of ours to run.
pub(super) fn render(
    reader: &ReaderView<'_>,
    templates: &ComponentTemplates,
    out: &mut RenderedCluster,
) -> Result<(), Diagnostics> {
    let Some(components) = &reader.cluster.components else {
        return Ok(());
    };
    let mut findings = Diagnostics::new();
    // whoever installed an agent installed its gateway
    if reader.cluster.manages_gateway && !reader.mesh.inside {
        add(reader, templates, GATEWAY.to_owned(), &gateway_values(reader), out, &mut findings);
    }
    if components.expose == Expose::Gateway && !reader.mesh.inside {
        add(reader, templates, EXPOSED.to_owned(), &exposed_values(reader, components), out, &mut findings);
    }
    let Some(image) = &components.image else {
        return findings.ok_or(Some(())).map(|_| ());
    };
    for (role, service, part) in roles(reader) {
        let mut context = values(reader, components, image, service);
        let more = if role == "agent" && part != RolePart::Former { &AGENT_FILES[..] } else { &[] };
        // while both run, the Service leads to the pods of who acts
        let files = FILES.iter().chain(more).copied();
        let files = files.filter(|file| part == RolePart::Acts || *file != "service.yaml");
        for file in files {
            if file == "deployment.yaml" {
                context.insert("args".to_owned(), args(reader, components, role).into());
            } else {
                context.remove("args");
            }
            add(reader, templates, format!("{role}/{file}"), &context, out, &mut findings);
        }
    }
    findings.ok_or(Some(())).map(|_| ())
}

/// Adds what a template renders with these values.
fn add(
    reader: &ReaderView<'_>,
    templates: &ComponentTemplates,
    file: String,
    context: &Map<String, Value>,
    out: &mut RenderedCluster,
    findings: &mut Diagnostics,
) {
    let (mesh, name) = (&reader.mesh.name, &reader.cluster.name);
    match templated(templates, mesh, file, context) {
        Ok(of_file) => {
            let marks = reader.marks(false);
            out.objects.extend(of_file.made.iter().map(|made| {
                let steps = steps_of(name);
                let Some(template) = made.yaml.as_ref().filter(|_| marks.is_empty()) else {
                    return RenderedObject::new(adopted(mesh, Object::clone(&made.object), &steps, &marks), steps);
                };
                let (text, bare) = (template.fill(&[name.as_str()]), made.object.clone());
                let text = TemplatedText { text, bare, mesh: mesh.clone(), cluster: name.clone() };
                RenderedObject::templated(made.id.clone(), steps, text)
            }));
            out.overrides.extend(of_file.overridden.clone());
        }
        Err(failed) => findings.extend(failed),
    }
}

/// The values of the gateway, which its template alone has: they differ from cluster to cluster.
fn gateway_values(reader: &ReaderView<'_>) -> Map<String, Value> {
    let cluster = reader.cluster;
    // an istiod of a revision takes a Gateway only where it is named
    let is_unnamed = |revision: &&Revision| **revision == Revision::unnamed();
    let named = cluster.istio.revisions.first().filter(|_| !cluster.istio.revisions.iter().any(|one| is_unnamed(&one)));
    let values = [
        ("gateway_hosts", json!(gateway_hosts(&cluster.cluster_domain))),
        ("has_revision", named.is_some().into()),
        ("manages_gateway", cluster.manages_gateway.into()),
        ("namespace", json!(cluster.istio.namespace)),
        ("network", json!(own_network(reader))),
        ("revision", json!(named)),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The values of how the gateway leads to exporter and api-proxy.
fn exposed_values(reader: &ReaderView<'_>, components: &Components) -> Map<String, Value> {
    let cluster = reader.cluster;
    let service = |name: &str| format!("{}.{}", service_host(name, &cluster.istio.namespace), cluster.cluster_domain);
    let (exporter, proxy) = public_hosts(reader, components);
    let values = [
        ("exporter_host", json!(exporter.map(Host::to_string))),
        ("exporter_service", service(EXPORTER).into()),
        ("exposed_by_gateway", true.into()),
        ("namespace", json!(cluster.istio.namespace)),
        ("proxy_host", json!(proxy.map(Host::to_string))),
        ("proxy_service", service(PROXY).into()),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What part a role has in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RolePart {
    Acts,
    /// It is to act, and runs beside who does.
    Next,
    /// It acted, and serves istiod as a relay until the Service is seen to lead to who acts.
    Former,
}

/// What runs in a cluster, and the Services of its roles. While the cluster is handed over, whoever acts next or before runs beside
/// who acts.
fn roles(reader: &ReaderView<'_>) -> Vec<(&'static str, &'static str, RolePart)> {
    let of = |who: Reconciler| if who == Reconciler::Agent { AGENT_ROLES } else { ROLES };
    let acts = of(reader.cluster.reconciler);
    let mut roles: Vec<_> = acts.into_iter().map(|(role, service)| (role, service, RolePart::Acts)).collect();
    if let Some(hand_over) = reader.hand_over().filter(|_| reader.changes_roles()) {
        let (other, part) = match reader.is_to_give() {
            Some(to) => (to, RolePart::Next),
            None => (hand_over.from, RolePart::Former),
        };
        let others = of(other).into_iter().filter(|(role, _)| acts.iter().all(|(acts, _)| acts != role));
        roles.extend(others.map(|(role, service)| (role, service, part)));
    }
    roles
}

fn values(reader: &ReaderView<'_>, components: &Components, image: &str, service: &str) -> Map<String, Value> {
    let issued = || tls_secret(service);
    let tls_secret = components.tls_secret.as_ref().map_or_else(issued, ToString::to_string);
    let name = |revision: &Revision| standard_config_map(revision.as_str());
    let cluster = reader.cluster;
    let istio = &cluster.istio;
    let values = json!({
        "namespace": istio.namespace,
        "image": image,
        "agent_account": format!("system:serviceaccount:{}:{AGENT}", istio.namespace),
        "relay_account": format!("system:serviceaccount:{}:{RELAY}", istio.namespace),
        "replicas": components.replicas,
        "expose": components.expose.service_type(),
        "exposed": components.expose.service_type() != Expose::ClusterIP,
        "external_traffic_policy": components.external_traffic_policy,
        "admission_policy": components.admission_policy,
        "finds_gateways": cluster.gateways.is_none() || cluster.network.is_none(),
        "tls_secret": tls_secret,
        "require_token": reader.requires_token(),
        "mesh_config_maps": istio.revisions.iter().map(name).collect::<Vec<_>>(),
    });
    match values {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

/// The command line of a role; what is not given here the role finds out by itself.
fn args(reader: &ReaderView<'_>, components: &Components, role: &str) -> Vec<String> {
    let cluster = reader.cluster;
    let mut args = vec!["serve".to_owned(), role.to_owned()];
    let mut flag = |name: &str, value: String| args.push(format!("--{name}={value}"));
    flag("namespace", cluster.istio.namespace.to_string());
    flag("log", "json".to_owned());
    if matches!(role, "exporter" | "proxy") {
        flag("tls-cert", format!("{TLS}/tls.crt"));
        flag("tls-key", format!("{TLS}/tls.key"));
    }
    if matches!(role, "exporter" | "proxy") {
        components.trusted_proxies.iter().for_each(|range| flag("trusted-proxy", range.to_string()));
    }
    if role == "proxy" {
        flag("audit-log", "-".to_owned());
    }
    if role == "proxy" {
        return args;
    }
    if let Some(network) = &cluster.network {
        flag("network", network.to_string());
    }
    if role != "exporter" {
        if components.tls_secret.is_none() {
            for (name, host) in leaf_hosts(reader, components) {
                flag(name, host);
            }
        }
        if cluster.istio.revisions != [Revision::unnamed()] {
            cluster.istio.revisions.iter().for_each(|revision| flag("revision", revision.to_string()));
        }
        if let Some(domain) = &cluster.trust_domain {
            flag("trust-domain", domain.to_string());
        }
        components.cluster_cidrs.iter().for_each(|range| flag("cluster-cidr", range.to_string()));
        if reader.requires_token() {
            args.push("--require-token".to_owned());
        }
        return args;
    }
    match &cluster.endpoint {
        Endpoint::Https { path, .. } if path.is_empty() => flag("path-prefix", "/".to_owned()),
        Endpoint::Https { path, .. } => flag("path-prefix", path.clone()),
        Endpoint::File(_) => {}
    }
    if let Some(host) = components.api_host.as_ref().or(cluster.api.host.as_ref()) {
        flag("api-host", host.to_string());
    }
    flag("mesh-id", reader.mesh_id().to_string());
    flag("cluster-domain", cluster.cluster_domain.to_string());
    if let Some(id) = &cluster.cluster_id {
        flag("cluster-id", id.to_string());
    }
    for gateway in cluster.gateways.iter().flatten() {
        flag("gateway", gateway.to_string());
    }
    if cluster.flat_network {
        args.push("--flat-network".to_owned());
    }
    args
}

/// Names and addresses that the leaves are for which the relay issues: what peers ask for, and the Services.
fn leaf_hosts(reader: &ReaderView<'_>, components: &Components) -> Vec<(&'static str, String)> {
    let (exporter, proxy) = public_hosts(reader, components);
    let mut hosts = Vec::new();
    for (flag, service, public) in [("exporter-host", EXPORTER, exporter), ("proxy-host", PROXY, proxy)] {
        hosts.extend(public.map(|host| (flag, host.to_string())));
        hosts.push((flag, service_host(service, &reader.cluster.istio.namespace)));
    }
    hosts
}

/// By which names, or at which addresses, peers ask for exporter and api-proxy.
fn public_hosts<'r>(reader: &ReaderView<'r>, components: &'r Components) -> (Option<&'r Host>, Option<&'r Host>) {
    let cluster = reader.cluster;
    let endpoint = match &cluster.endpoint {
        Endpoint::Https { host, .. } => Some(host),
        Endpoint::File(_) => None,
    };
    (endpoint, components.api_host.as_ref().or(cluster.api.host.as_ref()).map(|api| &api.host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SourceFile;

    #[test]
    fn what_was_rendered_is_kept_while_the_templates_are_the_same() {
        let before = ComponentTemplates::from(Templates::builtin());
        let values = json!({ "namespace": "istio-system", "expose": "LoadBalancer" });
        let file = "relay/service.yaml";
        templated(&before, &"shop".parse().unwrap(), file.to_owned(), values.as_object().unwrap()).unwrap();
        let kept = |templates| ComponentTemplates::after(Some(&before), templates).rendered.len();
        assert_eq!(kept(Templates::builtin()), 1);
        let text = include_str!("../../../templates/relay/service.yaml");
        let own = SourceFile { path: format!("templates/{file}").into(), bytes: format!("{text}# own\n").into() };
        assert_eq!(kept(Templates::load(&[own]).unwrap()), 0);
    }
}
