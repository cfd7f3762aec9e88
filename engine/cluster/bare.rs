//! A client that sends what it is told, for judging servers by how they answer what no well-behaved client sends. Bounded as the
//! [fetcher](crate::cluster::fetch) is in bytes and time; the address is one that a person typed, and is not judged.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use reqwest::Client;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::tls;

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Longest time of a question that is no watch.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often one that limits requests is asked again, and the pause before that.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Sends requests to one server, over HTTP/1.1 and TLS, and follows no redirection.
#[derive(Debug, Clone)]
pub struct BareClient {
    client: Client,
    base: String,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BareAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Of a body that did not end in time, what came until then.
    pub body: Vec<u8>,
    /// Whether the server ended it.
    pub ended: bool,
}

/// Why there is no answer, or no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BareError {
    #[error("this machine has no CA certificates; give --ca")]
    NoPublicCa,
    #[error("cannot make a client: {0}")]
    Client(String),
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

impl BareClient {
    /// A client for what is below a URL of `https://`. `ca` is PEM, and then the only trust.
    pub fn new(base: &str, ca: Option<&str>) -> Result<Self, BareError> {
        let client = |error: &dyn std::fmt::Display| BareError::Client(error.to_string());
        let roots = match ca {
            Some(pem) => Arc::new(tls::given_roots(pem).map_err(|error| client(&error))?),
            None => tls::system_roots().ok_or(BareError::NoPublicCa)?,
        };
        let tls = tls::client(roots, tls::HTTP_1).map_err(|error| client(&error))?;
        let built = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .build();
        Ok(Self { client: built.map_err(|error| client(&error))?, base: base.trim_end_matches('/').to_owned() })
    }

    /// Sends a request with exactly these headers and reads its answer.
    pub async fn ask(&self, method: Method, path: &str, headers: HeaderMap) -> Result<BareAnswer, BareError> {
        self.ask_within(PATIENCE, method, path, headers).await
    }

    /// The same within another time. Whoever is asked too often, or does not answer, is asked again a little later.
    pub async fn ask_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<BareAnswer, BareError> {
        for _ in 0..ATTEMPTS {
            match self.once(patience, method.clone(), path, headers.clone()).await {
                Ok(answer) if answer.status != StatusCode::TOO_MANY_REQUESTS.as_u16() => return Ok(answer),
                // a server may end a connection just when it is used again
                Ok(_) | Err(BareError::NoAnswer(_)) => sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        self.once(patience, method, path, headers).await
    }

    async fn once(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<BareAnswer, BareError> {
        let end = Instant::now() + patience;
        let request = self.client.request(method, format!("{}/{path}", self.base)).headers(headers);
        let response = match timeout_at(end, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(BareError::NoAnswer(innermost(&error))),
            Err(_) => return Err(BareError::Late(patience)),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut response, mut body) = (response, Vec::new());
        let ended = loop {
            match timeout_at(end, response.chunk()).await {
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => break true,
                Ok(Ok(Some(_)) | Err(_)) | Err(_) => break false,
            }
        };
        Ok(BareAnswer { status, headers, body, ended })
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
