//! Trying credentials of direct mode against the api-proxies that they are for, before istiod sees them.
//!
//! A credential that a peer refuses must never become live: some versions of istiod keep such a remote cluster until they
//! restart. So the very token that would be written asks for `GET /api`, the least that an api-proxy answers, with the trust
//! that the kubeconfig would have. Only status 200 with `kind: APIVersions` counts; Deckhouse probes its peers the same way.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};

use super::fetch::Fetcher;
use crate::address::Endpoint;
use crate::advance::{Link, Trials};
use crate::fact::Known;
use crate::failure::{Failure, TlsFault, shown};
use crate::json::parse_strict;
use crate::lock::Lock;
use crate::mesh::Mesh;
use crate::render::{Credential, CredentialSource};

/// Path below the api host that is asked for.
const PROBE: &str = "api";

/// Tries the credential that each link would have with its epoch, as many at a time as the fetcher's limits say. Every link
/// gets an outcome; an error says what is wrong in words that hold no token.
pub async fn try_credentials(
    mesh: &Mesh,
    lock: &Lock,
    to_try: &BTreeMap<Link, u32>,
    credentials: &(dyn CredentialSource + Sync),
    fetcher: &Fetcher,
) -> Trials {
    let trials = to_try.iter().map(async |(link, epoch)| {
        let outcome = try_one(mesh, lock, link, *epoch, credentials, fetcher).await;
        (link.clone(), outcome)
    });
    stream::iter(trials).buffer_unordered(fetcher.limits().at_once.max(1)).collect().await
}

async fn try_one(
    mesh: &Mesh,
    lock: &Lock,
    link: &Link,
    epoch: u32,
    credentials: &(dyn CredentialSource + Sync),
    fetcher: &Fetcher,
) -> Result<(), String> {
    let known = Known::of(mesh, lock, &link.1);
    let Some((peer, proxy)) = known.and_then(|peer| Some((peer, peer.proxy()?))) else {
        return Err("its api host is not known".to_owned());
    };
    let token = match credentials.credential(&link.0, &link.1, epoch) {
        Credential::Token(token) => token,
        Credential::Missing(reason) => return Err(reason),
    };
    let host = proxy.api_host;
    let endpoint = Endpoint::Https { host: host.host.clone(), port: host.port.unwrap_or(443), path: String::new() };
    let client = fetcher.peer(&endpoint, proxy.api_ca.as_deref(), &peer.cluster.allow.addresses);
    let client = client.map_err(|failure| words(&failure))?;
    let body = client.get_bearing(PROBE, Some(&token)).await.map_err(|failure| words(&failure))?;
    let kind = parse_strict(&body).ok().and_then(|answer| Some(answer.get("kind")?.as_str()?.to_owned()));
    match kind.as_deref() {
        Some("APIVersions") => Ok(()),
        Some(kind) => Err(format!("{} answered with kind `{}`, not `APIVersions`", endpoint.url(PROBE), shown(kind))),
        None => Err(format!(
            "the answer of {} is no JSON with a `kind`; check that it is an api-proxy",
            endpoint.url(PROBE)
        )),
    }
}

/// A failure in the words of the api-proxy: those of [`Failure`] are about metadata.
fn words(failure: &Failure) -> String {
    match failure {
        Failure::Unauthorized { url, status } => format!(
            "{url} refuses the token (status {status}); check that ConfigMap `isthmus-peers` with this cluster's key is synced there and that both clocks agree"
        ),
        Failure::NotResolved { url, problem } => {
            format!("cannot find the host of {url}: {problem}; check the published api host and its DNS record")
        }
        Failure::NotReachable { url, problem } => format!(
            "cannot reach {url}: {problem}; check that the api-proxy runs and that its address is open to this machine"
        ),
        Failure::TimedOut { url, seconds } => {
            format!("{url} did not answer within {seconds} s; check that the api-proxy is healthy")
        }
        Failure::Tls { url, fault: TlsFault::UnknownIssuer | TlsFault::NotByGivenCa } => format!(
            "cannot trust the server of {url}: its certificate is not signed by the CA that the kubeconfig would hold; check the published `apiCA`, or state `api.ca`"
        ),
        Failure::Tls { url, fault: TlsFault::WrongName { presented } } => {
            let names: Vec<String> = presented.iter().map(|name| format!("`{}`", shown(name))).collect();
            let names = if names.is_empty() { "others".to_owned() } else { names.join(", ") };
            format!("cannot trust the server of {url}: its certificate is not for this host but for {names}")
        }
        Failure::NotFound { url } => format!("{url} is not there (status 404); check that it is an api-proxy"),
        Failure::Redirect { url, to } => format!("{url} redirects to {to}, and redirections are not followed"),
        Failure::Status { url, status, .. } => format!("{url} answered with status {status}, and only 200 is taken"),
        Failure::ContentType { url, content_type } => format!("{url} sends `{content_type}` instead of JSON"),
        Failure::Client { url, problem } => {
            format!(
                "cannot prepare the request for {url}: {}",
                problem.replace("`metadata.ca`", "the CA of the api-proxy")
            )
        }
        other => {
            other.to_string().replace("a metadata-exporter", "an api-proxy").replace("metadata-exporter", "api-proxy")
        }
    }
}
