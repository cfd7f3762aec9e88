//! Servers that are tried from outside: what is printed of one that passes what everyone may ask, and of one that is none.

use super::OutputPage;
use crate::support::environment::TestEnvironment;
use crate::support::peer::{Ca, Peer, answer, json};

const PUBLIC: &str = include_str!("../../fixtures/real/east/metadata/public/public.json");

/// What everyone may read of an exporter, and of an api-proxy 401.
fn script(head: &str) -> Vec<crate::support::peer::PeerStep> {
    let is_read = head.starts_with("GET ");
    match head.split_whitespace().nth(1).unwrap_or_default() {
        "/metadata/public/public.json" if is_read => json(PUBLIC),
        "/metadata/public/spiffe-bundle-endpoint" => json(r#"{"keys":[{"kty":"RSA"}]}"#),
        "/metadata/public/public.json" => answer("405 Method Not Allowed", "", ""),
        "/api" => answer("401 Unauthorized", "", "unauthorized\n"),
        _ => answer("404 Not Found", "", ""),
    }
}

#[test]
fn conformance() {
    let mut page = OutputPage::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ca = Ca::new("server");
    let good = runtime.block_on(Peer::start(&ca.serving(&["127.0.0.1"]), script));
    let bad = runtime.block_on(Peer::start(&ca.serving(&["127.0.0.1"]), |_| answer("200 OK", "", "<html>")));
    let environment = TestEnvironment::new();
    std::fs::write(environment.path("ca.pem"), &ca.pem).unwrap();
    let ca = environment.path("ca.pem").to_str().unwrap().to_owned();
    for (server, base) in [("exporter", "/metadata"), ("proxy", "")] {
        for (about, address) in [("what everyone may ask", good.address), ("no such server", bad.address)] {
            for form in [&[][..], &["--output", "json"]] {
                let url = format!("https://{address}{base}");
                let arguments = [&["conformance", server, &url, "--ca", &ca][..], form].concat();
                let mut ran = environment.run(&arguments);
                ran.stdout = ran.stdout.replace(&address.to_string(), "127.0.0.1:[PORT]");
                let arguments: Vec<String> =
                    arguments.iter().map(|word| word.replace(&address.to_string(), "127.0.0.1:[PORT]")).collect();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                page.ran(about, &environment, &arguments, &ran);
            }
        }
        let none = ["conformance", server, "https://127.0.0.1:1", "--ca", "nowhere.pem"];
        page.run_in("a file that is not there", &environment, &none);
    }
    page.hold("conformance");
}
