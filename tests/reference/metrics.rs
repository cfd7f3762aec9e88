//! Metrics, from the registries that roles and watch register them in.

use std::collections::{BTreeMap, BTreeSet};

use isthmus::roles::{exporter, proxy, relay};
use isthmus::server::telemetry::Metrics;
use isthmus::watch;

use super::{ReferencePage, code, hold, link};

#[test]
fn metrics() {
    let mut page = ReferencePage::new(
        "Metrics",
        "Roles serve `/metrics` in the text of OpenMetrics on the port of `--metrics-listen` (9090), `engine watch` on that of \
         `--http`.\nA metric with labels appears with its first series.",
    );
    let processes = [
        ("metadata-exporter", exporter::metrics()),
        ("api-proxy", proxy::metrics()),
        ("relay", relay::metrics()),
        ("agent", isthmus::agent::metrics()),
        ("engine watch", watch::metrics()),
    ];
    let links: Vec<_> = processes.iter().map(|(name, _)| format!("* {}", link(name))).collect();
    page.text(&links.join("\n"));
    for (name, metrics) in processes {
        page.heading(2, name);
        page.table(["metric", "type", "labels", "meaning"], &rows(&metrics));
    }
    hold("metrics.md", &page.0);
    let of_roles = isthmus::cli::command();
    let serve = of_roles.find_subcommand("serve").and_then(|serve| serve.find_subcommand("relay")).unwrap();
    let port = serve.get_arguments().find(|argument| argument.get_long() == Some("metrics-listen")).unwrap();
    assert!(port.get_default_values()[0].to_str().unwrap().ends_with(":9090"));
}

/// Name, type, labels and help of each metric, from the text that is served.
fn rows(metrics: &Metrics) -> Vec<[String; 4]> {
    let text = metrics.text_with_examples();
    let (mut helps, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            helps.insert(name, help.trim_end_matches('.'));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let of =
                kinds.keys().filter(|metric| name.starts_with(**metric)).max_by_key(|metric| metric.len()).unwrap();
            let all = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(all, _)| all);
            let named = all.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
            labels.entry(of).or_default().extend(named.filter(|label| *label != "le"));
        }
    }
    assert_eq!(labels.len(), kinds.len(), "each metric has a series: {text}");
    let row = |(name, kind): (&&str, &&str)| {
        let suffix = match *kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = labels[name].iter().map(|label| code(label)).collect();
        [code(&format!("{name}{suffix}")), (*kind).to_owned(), labels.join(", "), helps[name].to_owned()]
    };
    kinds.iter().map(row).collect()
}
