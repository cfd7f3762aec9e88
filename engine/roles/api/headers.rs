//! Headers, by lists of what is allowed: what goes to the apiserver and what comes back are made anew.
//!
//! A request that tries to say who it is, or to change how the connection is spoken, is refused whole: underscores and any
//! case count too (CVE-2025-64484 of oauth2-proxy, golang/go#50580, CVE-2018-1002105 of Kubernetes are the reasons).

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, IF_NONE_MATCH, TE, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::peers::PEERS_GROUP;

/// Most bytes of a User-Agent that are forwarded.
const MAX_USER_AGENT: usize = 200;
/// Most bytes of an Accept.
const MAX_ACCEPT: usize = 1024;

/// What proxies add of whom they ask for.
const FORWARDED: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-real-ip",
];

/// Why a request is refused for its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeaderRefused {
    /// It says who it is.
    #[error("a header that claims an identity")]
    Identity,
    /// It wants another protocol.
    #[error("a header that asks for another protocol")]
    Upgrade,
    /// It has a body, or might.
    #[error("a header that announces a body")]
    Body,
    /// A header twice that may come once.
    #[error("a header twice")]
    Twice,
    /// A value that cannot be passed on.
    #[error("a header with a value that cannot be passed on")]
    Value,
    /// It takes no JSON.
    #[error("an Accept without JSON, the one form in which peers are answered")]
    NotAcceptable,
}

/// In which form an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// As the request does.
    AsAsked,
    /// JSON, of whole objects or of their metadata, whichever the request names first.
    Json,
}

/// Takes out what a trusted proxy says of whom it asks for. With an underscore, or with a client's certificate in it, no proxy of
/// ours adds such a header, and it is refused.
pub(crate) fn drop_forwarded(headers: &mut HeaderMap) {
    for name in FORWARDED {
        headers.remove(name);
    }
}

/// The headers of a request as they are forwarded, without who asks.
pub fn upstream(incoming: &HeaderMap, form: Accept) -> Result<HeaderMap, HeaderRefused> {
    for (name, value) in incoming {
        judge(name, value)?;
    }
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let accept = single(incoming, &ACCEPT)?;
    if accept.is_some_and(|accept| accept.len() > MAX_ACCEPT) {
        return Err(HeaderRefused::Value);
    }
    let accept = match form {
        Accept::Json => Some(json_of(accept)?),
        Accept::AsAsked => accept.cloned(),
    };
    if let Some(accept) = accept {
        headers.insert(ACCEPT, accept);
    }
    if let Some(tag) = single(incoming, &IF_NONE_MATCH)? {
        headers.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(agent) = single(incoming, &USER_AGENT)? {
        let agent: Vec<u8> = agent.as_bytes().iter().copied().take(MAX_USER_AGENT).collect();
        headers.insert(USER_AGENT, HeaderValue::from_bytes(&agent).map_err(|_| HeaderRefused::Value)?);
    }
    Ok(headers)
}

const WHOLE_JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Asks for Kubernetes' protobuf before JSON, where whole objects are asked for.
pub(crate) fn prefer_protobuf(headers: &mut HeaderMap) {
    if headers.get(ACCEPT).is_some_and(|accept| accept == WHOLE_JSON) {
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.kubernetes.protobuf, application/json"));
    }
}

/// The first form of JSON that a request takes. istiod names protobuf before it, kubectl a `Table`; both take JSON as well
/// (k8s.io/apiserver `pkg/endpoints/handlers/negotiation` reads them in this order, too).
fn json_of(accept: Option<&HeaderValue>) -> Result<HeaderValue, HeaderRefused> {
    let Some(accept) = accept else { return Ok(HeaderValue::from_static(WHOLE_JSON)) };
    let accept = accept.to_str().map_err(|_| HeaderRefused::Value)?;
    let form = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let values: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let value = |key: &str| values.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let takes = [WHOLE_JSON, "application/*", "*/*"].contains(&kind) && value("q") != Some("0");
        match (value("as"), value("g"), value("v")) {
            (None, ..) if takes => Some(WHOLE_JSON),
            (Some("PartialObjectMetadata"), Some("meta.k8s.io"), Some("v1")) if takes => {
                Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
            }
            (Some("PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) if takes => {
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
            }
            _ => None,
        }
    };
    accept.split(',').find_map(form).map(HeaderValue::from_static).ok_or(HeaderRefused::NotAcceptable)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, HeaderRefused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(HeaderRefused::Twice),
        (value, None) => Ok(value),
    }
}

fn judge(name: &HeaderName, value: &HeaderValue) -> Result<(), HeaderRefused> {
    let plain = name.as_str().replace('_', "-");
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| plain.starts_with(prefix));
    if begins(&["impersonate-", "x-remote-", "x-forwarded-", "x-real-ip", "forwarded", "proxy-"]) {
        return Err(HeaderRefused::Identity);
    }
    let says = |allowed: &[&str]| {
        let message = value.to_str().unwrap_or("?").split(',').map(|word| word.trim().to_ascii_lowercase());
        message.into_iter().all(|word| allowed.contains(&word.as_str()))
    };
    if plain == UPGRADE.as_str()
        || begins(&["sec-websocket-", "http2-settings", "x-stream-protocol-version"])
        || (plain == CONNECTION.as_str() && !says(&["keep-alive", "close", ""]))
        || (plain == TE.as_str() && !says(&["trailers"]))
    {
        return Err(HeaderRefused::Upgrade);
    }
    if plain == TRANSFER_ENCODING.as_str()
        || plain == EXPECT.as_str()
        || (plain == CONTENT_LENGTH.as_str() && value != "0")
    {
        return Err(HeaderRefused::Body);
    }
    Ok(())
}

/// Makes a request one of a peer's user.
pub fn impersonate(headers: &mut HeaderMap, user: &str) {
    // no user of a peer has a character that a header cannot have; without the header the request has no right at all
    if let Ok(user) = HeaderValue::try_from(user) {
        headers.insert("impersonate-user", user);
        headers.insert("impersonate-group", HeaderValue::from_static(PEERS_GROUP));
    }
}

/// Whether an answer is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, WHOLE_JSON)
}

/// Whether an answer is Kubernetes' protobuf.
pub(crate) fn is_protobuf(headers: &HeaderMap) -> bool {
    is_of_type(headers, PROTOBUF)
}

fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}

/// Headers of answers that come back.
const ANSWERED: [&str; 8] =
    ["audit-id", "cache-control", "content-type", "date", "etag", "last-modified", "retry-after", "warning"];

/// The headers of an answer as they come back.
pub fn answer(incoming: &HeaderMap) -> HeaderMap {
    let allowed = incoming.iter().filter(|(name, _)| ANSWERED.contains(&name.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in allowed {
        headers.append(name.clone(), value.clone());
    }
    headers
}
