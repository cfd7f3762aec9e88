//! Paths as a real apiserver reads them. `tests/data/request_info.json` holds what kube-apiserver 1.34 made of each, from its audit
//! log: verb, group, version, namespace, resource, name and subresource. What is understood here is what it understands; what it
//! could understand otherwise is refused.

use http::Method;
use isthmus::roles::api::request::{ApiRequest, RequestTarget};
use isthmus::roles::api::table::TableEntry;
use serde_json::Value;

fn recorded() -> Vec<Value> {
    serde_json::from_str(include_str!("data/request_info.json")).unwrap()
}

/// Verb and object, as an audit record names them.
fn read(path: &str) -> Option<[String; 7]> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let request = ApiRequest::parse(&Method::GET, path, query, 2048).ok()?;
    let verb = request.verb.as_str().to_owned();
    let RequestTarget::Resource(resource) = request.target else {
        return Some([verb, String::new(), String::new(), String::new(), String::new(), String::new(), String::new()]);
    };
    let mut namespace = resource.namespace.unwrap_or_default();
    let mut name = resource.name.unwrap_or_default();
    if resource.resource == "namespaces" && namespace.is_empty() {
        // an audit record has the name of a namespace twice
        namespace.clone_from(&name);
    }
    // a list that selects one name counts as a request for that name
    let selector = request.query.field_selector.unwrap_or_default();
    let selected = selector.split(',').find_map(|one| one.strip_prefix("metadata.name="));
    if let (true, Some(selected)) = (name.is_empty(), selected) {
        selected.clone_into(&mut name);
    }
    let subresource = resource.subresource.unwrap_or_default();
    // the rest of a path below a subresource is the subresource's own
    let subresource = subresource.split('/').next().unwrap_or_default().to_owned();
    Some([verb, resource.group, resource.version, namespace, resource.resource, name, subresource])
}

#[test]
fn paths_are_read_as_an_apiserver_reads_them() {
    let (mut understood, mut all) = (0, 0);
    for record in recorded() {
        all += 1;
        let path = record["path"].as_str().unwrap();
        let Some(ours) = read(path) else { continue };
        understood += 1;
        let fields = ["verb", "apiGroup", "apiVersion", "namespace", "resource", "name", "subresource"];
        let theirs = fields.map(|field| record[field].as_str().unwrap_or_default().to_owned());
        assert_eq!(ours, theirs, "{path}");
    }
    assert!(all >= 180 && understood >= 60, "{understood} of {all}");
}

#[test]
fn what_the_table_admits_an_apiserver_takes_for_nothing_else() {
    const READ: [&str; 12] = [
        "namespaces",
        "nodes",
        "pods",
        "services",
        "endpointslices",
        "customresourcedefinitions",
        "workloadentries",
        "serviceexports",
        "serviceimports",
        "gateways",
        "secrets",
        "configmaps",
    ];
    let mut admitted = 0;
    for record in recorded() {
        let path = record["path"].as_str().unwrap();
        let (bare, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let Ok(request) = ApiRequest::parse(&Method::GET, bare, query, 2048) else { continue };
        if TableEntry::of(&request).is_err() {
            continue;
        }
        admitted += 1;
        assert!(["get", "list", "watch"].contains(&record["verb"].as_str().unwrap()), "{record}");
        assert!(record.get("subresource").is_none(), "{record}");
        let resource = record["resource"].as_str();
        assert!(path == "/api" || resource.is_some_and(|resource| READ.contains(&resource)), "{record}");
        assert!(resource != Some("secrets") || record["verb"] != "get", "{record}");
    }
    assert!(admitted >= 20, "{admitted}");
}
