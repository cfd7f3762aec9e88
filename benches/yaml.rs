//! What the worst YAML costs: 1 MiB of each kind, through each reader of texts of others.
//!
//! `cargo bench --bench yaml` prints the slowest text of each reader; the target is 50 ms, or that it is refused.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::path::Path;
use std::time::{Duration, Instant};

use isthmus::cluster::kubeconfig as people;
use isthmus::istio::kubeconfig::RemoteKubeconfig;
use isthmus::model::lock::Lock;
use isthmus::pipeline::template::Templates;
use isthmus::spec::{SourceFile, parse};
use isthmus::types::object;
use isthmus::types::yaml::{MAX_OBJECT, value};
use isthmus::wire::metadata::PrivateDocument;

#[path = "support/worst_yaml.rs"]
mod worst_yaml;
use worst_yaml::worst;

/// A reader, and whether it takes a text.
type YamlReader = (&'static str, fn(&str) -> bool);

fn source(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), bytes: text.as_bytes().to_vec() }
}

fn main() {
    let readers: [YamlReader; 8] = [
        ("specs", |text| parse(&[source("specs/a.yaml", text)]).is_ok()),
        ("lock", |text| Lock::parse([("lock/clusters/east.yaml", text.as_bytes())]).is_ok()),
        ("overrides of templates", |text| Templates::load(&[source("templates/relay/service.yaml", text)]).is_ok()),
        ("objects in rendered/", |text| object::parse(text.as_bytes()).is_some()),
        ("mesh configuration in a cluster", |text| value(text, MAX_OBJECT).is_ok()),
        ("kubeconfigs of remote secrets", |text| RemoteKubeconfig::read(text.as_bytes()).is_some()),
        ("kubeconfigs of people", |text| {
            people::Kubeconfig::default().add(Path::new("config"), text.as_bytes()).is_ok()
        }),
        ("meshNetworks of peers", |text| {
            let evidence = serde_json::json!({"meshConfig": {"caCertificates": false, "meshNetworks": text}});
            let document =
                serde_json::json!({"ingressGateways": [], "apiHost": "a:1", "networkName": "n", "evidence": evidence});
            PrivateDocument::parse(document.to_string().as_bytes()).is_ok()
        }),
    ];
    let texts = worst(1 << 20);
    for (name, read) in readers {
        let mut slowest = (Duration::ZERO, "", false);
        for (kind, text) in &texts {
            let start = Instant::now();
            let taken = read(text);
            slowest = slowest.max((start.elapsed(), kind, taken));
        }
        let (time, kind, taken) = slowest;
        let end = if taken { "read" } else { "refused" };
        println!("{name:<32} {:>8.1} ms   {kind}, {end}   target ≤ 50 ms", time.as_secs_f64() * 1e3);
    }
}
