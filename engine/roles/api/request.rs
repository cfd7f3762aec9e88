//! What is asked of the apiserver, read strictly: what two readers could take in two ways is refused.
//!
//! A path has one spelling only: segments of letters, digits, `-`, `_`, `.` and `:`, nothing escaped, nothing empty, no `.`
//! or `..`. Of a query only the keys of lists and watches are known, each once, each with a value of its type. Verbs,
//! resources and subresources are told apart as Kubernetes' `RequestInfo` does (k8s.io/apiserver/pkg/endpoints/request).

use http::Method;

/// Longest path, bytes, unless a limit says less.
pub const MAX_PATH: usize = 2048;
/// Longest value of a selector or a continue token, bytes.
const MAX_VALUE: usize = 4096;

/// A request that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Anything but GET and HEAD.
    #[error("only GET and HEAD are answered")]
    Method,
    /// A path that has another spelling, or is too long.
    #[error("the path is not in its normal form")]
    Path,
    /// A path that no resource has.
    #[error("no such path")]
    NoSuchPath,
    /// A key of the query that is not known.
    #[error("the query has a key that is not known: {0}")]
    Key(String),
    /// A key that is there twice.
    #[error("the query has `{0}` twice")]
    Twice(&'static str),
    /// A value of the wrong type.
    #[error("the query's `{0}` has a value that it cannot have")]
    Value(&'static str),
}

/// What a request does, by Kubernetes' verbs for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
}

impl Verb {
    /// As Kubernetes names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// What it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestTarget {
    /// `/api`, by which peers probe.
    ApiVersions,
    Resource(Resource),
}

/// A resource, or objects of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Namespace, when the path names one.
    pub namespace: Option<String>,
    /// Resource, in the plural.
    pub resource: String,
    pub name: Option<String>,
    /// Subresource, with all that follows it.
    pub subresource: Option<String>,
}

/// The query of a list or a watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    pub watch: Option<bool>,
    pub allow_watch_bookmarks: Option<bool>,
    pub send_initial_events: Option<bool>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
    pub limit: Option<u64>,
    pub continue_token: Option<String>,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
    pub timeout_seconds: Option<u64>,
    /// Go's spelling of a time, which client-go sends beside `timeoutSeconds`. It is read and not passed on.
    pub timeout: Option<String>,
}

/// A request for a resource, by its parsed path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    pub verb: Verb,
    pub target: RequestTarget,
    pub query: Query,
}

impl ApiRequest {
    /// Reads a request of at most `max_path` bytes of path.
    pub fn parse(method: &Method, path: &str, query: Option<&str>, max_path: usize) -> Result<Self, RequestError> {
        if method != Method::GET && method != Method::HEAD {
            return Err(RequestError::Method);
        }
        let target = RequestTarget::parse(path, max_path.min(MAX_PATH))?;
        let query = Query::parse(query.unwrap_or_default())?;
        let named =
            matches!(&target, RequestTarget::Resource(Resource { name: Some(_), .. }) | RequestTarget::ApiVersions);
        let verb = match (named, query.watch == Some(true)) {
            (false, false) => Verb::List,
            (false, true) => Verb::Watch,
            (true, false) => Verb::Get,
            // long deprecated, and no one asks
            (true, true) => return Err(RequestError::Value("watch")),
        };
        Ok(Self { verb, target, query })
    }

    /// The resource that is asked for.
    pub fn resource(&self) -> Option<&Resource> {
        match &self.target {
            RequestTarget::ApiVersions => None,
            RequestTarget::Resource(resource) => Some(resource),
        }
    }

    /// The list that holds what a watch sends first which is to begin with what there is, and to say when it has sent that.
    ///
    /// Both are read from the same cache (k8s.io/apiserver `pkg/storage/cacher/cacher.go`). The newest will do for any version that
    /// is asked for, also where that is one which the apiserver does not have, as after etcd was restored.
    pub fn initial_list(&self) -> Option<Self> {
        let query = &self.query;
        let (begins, says) = (query.send_initial_events == Some(true), query.allow_watch_bookmarks == Some(true));
        let oldest = query.resource_version_match.as_deref() == Some("NotOlderThan");
        let is_of_all = self.verb == Verb::Watch && begins && says && oldest;
        let resource_version = query.resource_version.clone().filter(|version| version == "0");
        is_of_all.then(|| Self {
            verb: Verb::List,
            target: self.target.clone(),
            query: Query {
                resource_version_match: resource_version.is_some().then(|| "NotOlderThan".to_owned()),
                resource_version,
                field_selector: query.field_selector.clone(),
                label_selector: query.label_selector.clone(),
                ..Query::default()
            },
        })
    }

    /// The watch that continues from what was listed at this version.
    #[must_use]
    pub fn continued(&self, version: String) -> Self {
        let query = Query {
            resource_version: Some(version),
            resource_version_match: None,
            send_initial_events: None,
            ..self.query.clone()
        };
        Self { query, ..self.clone() }
    }

    /// The request in its one spelling. `seconds` is for how long a watch may last; the peer's own wish, when it is less,
    /// counts.
    pub fn path_and_query(&self, seconds: u64) -> String {
        let mut text = match &self.target {
            RequestTarget::ApiVersions => "/api".to_owned(),
            RequestTarget::Resource(resource) => resource.path(),
        };
        let mut query = self.query.clone();
        query.timeout = None;
        query.timeout_seconds = match self.verb {
            Verb::Watch => Some(query.timeout_seconds.filter(|&wish| wish > 0).unwrap_or(seconds).min(seconds).max(1)),
            Verb::Get | Verb::List => query.timeout_seconds,
        };
        let query = query.to_text();
        if !query.is_empty() {
            text.push('?');
            text.push_str(&query);
        }
        text
    }
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

impl RequestTarget {
    fn parse(path: &str, max: usize) -> Result<Self, RequestError> {
        if path.len() > max {
            return Err(RequestError::Path);
        }
        let rest = path.strip_prefix('/').ok_or(RequestError::Path)?;
        let segments: Vec<&str> = rest.split('/').collect();
        if !segments.iter().all(|segment| is_segment(segment)) {
            return Err(RequestError::Path);
        }
        let (group, version, rest) = match segments[..] {
            ["api"] => return Ok(Self::ApiVersions),
            ["api", version, ref rest @ ..] => ("", version, rest),
            ["apis", group, version, ref rest @ ..] => (group, version, rest),
            _ => return Err(RequestError::NoSuchPath),
        };
        let (namespace, rest) = match *rest {
            ["namespaces", namespace, _, ..] => {
                // `status` and `finalize` are of the namespace itself, in whatever group
                if matches!(rest.get(2), Some(&("status" | "finalize"))) {
                    (None, rest)
                } else {
                    (Some(namespace), rest.get(2..).unwrap_or_default())
                }
            }
            // the old spelling of a watch, and paths through the apiserver
            ["watch" | "proxy", ..] | [] => return Err(RequestError::NoSuchPath),
            _ => (None, rest),
        };
        let (resource, name, subresource) = match *rest {
            [resource] => (resource, None, None),
            [resource, name] => (resource, Some(name), None),
            [resource, name, ref subresource @ ..] => (resource, Some(name), Some(subresource.join("/"))),
            [] => return Err(RequestError::NoSuchPath),
        };
        Ok(Self::Resource(Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: resource.to_owned(),
            name: name.map(str::to_owned),
            subresource,
        }))
    }
}

impl Resource {
    fn path(&self) -> String {
        let mut text = if self.group.is_empty() { String::from("/api") } else { format!("/apis/{}", self.group) };
        let namespaces = self.namespace.iter().flat_map(|namespace| ["namespaces", namespace]);
        let name = self.name.iter().chain(&self.subresource).map(String::as_str);
        for part in [self.version.as_str()].into_iter().chain(namespaces).chain([self.resource.as_str()]).chain(name) {
            text.push('/');
            text.push_str(part);
        }
        text
    }

    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Decodes `%XX` and `+`; `None` when that is broken, or gives anything but printable ASCII.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = String::new();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            byte => byte,
        };
        if !(byte == b' ' || byte.is_ascii_graphic()) {
            return None;
        }
        decoded.push(char::from(byte));
    }
    Some(decoded)
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn put<T>(place: &mut Option<T>, key: &'static str, value: Option<T>) -> Result<(), RequestError> {
    if place.is_some() {
        return Err(RequestError::Twice(key));
    }
    *place = Some(value.ok_or(RequestError::Value(key))?);
    Ok(())
}

impl Query {
    /// Whether it continues from a version that is none of an apiserver's: one that an api-proxy marked with what a peer sees.
    pub fn names_marked_version(&self) -> bool {
        self.resource_version.as_ref().is_some_and(|version| !version.is_empty() && version.parse::<u64>().is_err())
    }

    fn parse(text: &str) -> Result<Self, RequestError> {
        let mut query = Self::default();
        // kube-rs begins each query with `&`, and an apiserver takes what is empty for nothing, too
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = || decode(value).filter(|value| value.len() <= MAX_VALUE);
            let yes_or_no = || match value {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            };
            let number = || value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()));
            let of = |allowed: fn(u8) -> bool| text().filter(|value| value.bytes().all(allowed));
            match key {
                "watch" => put(&mut query.watch, "watch", yes_or_no()),
                "allowWatchBookmarks" => put(&mut query.allow_watch_bookmarks, "allowWatchBookmarks", yes_or_no()),
                "sendInitialEvents" => put(&mut query.send_initial_events, "sendInitialEvents", yes_or_no()),
                "resourceVersion" => {
                    put(&mut query.resource_version, "resourceVersion", of(|byte| byte.is_ascii_digit()))
                }
                "resourceVersionMatch" => {
                    let known = text().filter(|value| value == "Exact" || value == "NotOlderThan");
                    put(&mut query.resource_version_match, "resourceVersionMatch", known)
                }
                "limit" => put(&mut query.limit, "limit", number()),
                "continue" => {
                    let token = of(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='));
                    put(&mut query.continue_token, "continue", token)
                }
                "fieldSelector" => put(&mut query.field_selector, "fieldSelector", text()),
                "labelSelector" => put(&mut query.label_selector, "labelSelector", text()),
                "timeoutSeconds" => put(&mut query.timeout_seconds, "timeoutSeconds", number()),
                "timeout" => {
                    let time =
                        of(|byte| byte.is_ascii_digit() || matches!(byte, b'h' | b'm' | b's' | b'n' | b'u' | b'.'));
                    put(&mut query.timeout, "timeout", time)
                }
                key => Err(RequestError::Key(key.chars().take(40).filter(char::is_ascii_graphic).collect())),
            }?;
        }
        Ok(query)
    }

    fn to_text(&self) -> String {
        let yes_or_no = |value: Option<bool>| value.map(|value| value.to_string());
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let pairs = [
            ("allowWatchBookmarks", yes_or_no(self.allow_watch_bookmarks)),
            ("continue", self.continue_token.clone()),
            ("fieldSelector", self.field_selector.clone()),
            ("labelSelector", self.label_selector.clone()),
            ("limit", number(self.limit)),
            ("resourceVersion", self.resource_version.clone()),
            ("resourceVersionMatch", self.resource_version_match.clone()),
            ("sendInitialEvents", yes_or_no(self.send_initial_events)),
            ("timeout", self.timeout.clone()),
            ("timeoutSeconds", number(self.timeout_seconds)),
            ("watch", yes_or_no(self.watch)),
        ];
        let mut text = String::new();
        for (key, value) in pairs {
            if let Some(value) = value {
                text.push_str(if text.is_empty() { "" } else { "&" });
                text.push_str(key);
                text.push('=');
                encode(&value, &mut text);
            }
        }
        text
    }
}
