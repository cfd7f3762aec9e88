//! The table of tokens against running servers: whoever is admitted by the verifier is answered, all others get one and the same
//! refusal, whatever is wrong.

use std::collections::BTreeSet;

use http::HeaderValue;
use isthmus::roles::exporter::{Exporter, Gathered, Published};
use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading};
use isthmus::wire::peers::PeersFile;

use super::*;
use crate::token::{CORPUS, CorpusRow, corpus, corpus_peers};

/// What a server answered: status, and all of the answer that may not differ.
type WholeAnswer = (StatusCode, Vec<(String, String)>, Bytes);

async fn answer_to(client: &Client, path: &str, row: &CorpusRow) -> Option<WholeAnswer> {
    let mut request = Request::get(format!("https://127.0.0.1{path}"));
    for value in &row.values {
        // what no header can hold no client can send
        request = request.header("authorization", HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    let sent = client.0.clone().send_request(request.body(whole("")).unwrap());
    let answered = timeout(Duration::from_secs(20), sent).await.expect("an answer in time").ok()?;
    let (head, body) = answered.into_parts();
    let headers = head.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    Some((head.status, headers, body.collect().await.unwrap().to_bytes()))
}

/// Sends every row of a scope, each on a connection of its own, since a refusal may end one.
async fn judged(address: SocketAddr, ca: &Ca, path: &str, scope: Scope) -> usize {
    let (mut refusals, mut sent, mut seen) = (BTreeSet::new(), 0, BTreeSet::new());
    for row in
        corpus().into_iter().filter(|row| row.asked == scope && row.values.iter().all(|value| value.len() < 7000))
    {
        // a token that was shown once is refused the second time
        if !seen.insert(row.values.clone()) {
            continue;
        }
        let client = Client::new(address, ca).await;
        let Some(answer) = answer_to(&client, path, &row).await else { continue };
        sent += 1;
        let expected = if row.is_admitted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(answer.0, expected, "{}", row.name);
        if !row.is_admitted {
            refusals.insert(format!("{answer:?}"));
        }
    }
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    sent
}

fn clock() -> Timestamp {
    Timestamp::from_seconds(CORPUS.1)
}

fn fast_limits() -> RoleLimits {
    RoleLimits { header_bytes: 16 * 1024, ..limits() }
}

#[tokio::test]
async fn a_running_exporter_gives_each_token_the_verdict_of_the_table() {
    let document = include_str!("../../fixtures/real/east/metadata/public/public.json");
    let Reading::Complete(public) = PublicDocument::parse(document.as_bytes()).unwrap() else { panic!() };
    let private = include_bytes!("../../fixtures/real/east/metadata/private/multicluster.json");
    let Reading::Complete(private) = PrivateDocument::parse(private).unwrap() else { panic!() };
    let published = Published {
        cluster_uuid: Some(CORPUS.0.parse().unwrap()),
        public: Ok(public),
        private: Ok(private),
        evidence: Gathered::Nothing,
        peers: Ok(PeersFile::parse(corpus_peers().to_string().as_bytes()).unwrap()),
        sequence: 1,
    };
    let ca = Ca::new("exporter");
    let Serving { chain, key } = ca.serving(&["127.0.0.1"]);
    let certificates = Certificates::from_pem(&chain, &key).unwrap();
    let bound = Bound::to("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let exporter = Arc::new(Exporter::new("/metadata", published, clock));
    let running = bound.serve(&certificates, fast_limits().server(false), exporter);
    let path = "/metadata/private/multicluster.json";
    let sent = judged(running.address(), &ca, path, Scope::PrivateMulticluster).await;
    assert!(sent >= 120, "{sent} tokens");
}

#[tokio::test]
async fn a_running_api_proxy_gives_each_token_the_verdict_of_the_table() {
    let world = unknowing(fast_limits(), |asked| asked.path.contains("/pods").then(list)).await;
    let identity = json!({ "version": 1, "clusterUUID": CORPUS.0, "trustDomain": "cluster.local" }).to_string();
    world.apiserver.config_map(NAMESPACE, "isthmus-identity", Some(("identity.json", &identity)));
    world.peers(&corpus_peers().to_string());
    world.ready(Duration::from_secs(10)).await;
    let address = world.running.address();
    assert!(judged(address, &world.ca, PODS, Scope::Api).await >= 8);
    // those that are good for metadata alone, and all that are bad for it, open no apiserver
    let mut refusals = BTreeSet::new();
    let metadata = corpus().into_iter().filter(|row| row.asked == Scope::PrivateMulticluster);
    let mut sent = 0;
    for row in metadata.filter(|row| row.values.iter().all(|value| value.len() < 7000)) {
        let client = Client::new(address, &world.ca).await;
        let Some(answer) = answer_to(&client, PODS, &row).await else { continue };
        sent += 1;
        // the table's row of another scope is the one that this server admits
        let is_api = row.name == "api for metadata" || row.name == "scope = \"api\"";
        assert_eq!(answer.0 == StatusCode::OK, is_api, "{}", row.name);
        if !is_api {
            refusals.insert(format!("{answer:?}"));
        }
    }
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(sent >= 120, "{sent} tokens");
}
