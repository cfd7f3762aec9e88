//! What a client may cost, by name: `--limit NAME=VALUE`. [`ALL`] says what each limit is of; docs/reference/limits.md lists
//! them with the values that each role begins with.
//!
//! An address is an IPv4 address or an IPv6 /64.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::server_limits::ServerLimits;

/// Requests a second, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, at least one.
    pub per_second: u32,
    /// How many at once, at least one.
    pub burst: u32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.per_second, self.burst)
    }
}

/// All limits of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleLimits {
    pub handshake: Duration,
    pub header: Duration,
    pub request: Duration,
    pub list: Duration,
    pub watch: Duration,
    pub stall: Duration,
    pub idle: Duration,
    pub lame_duck: Duration,
    pub drain: Duration,
    pub header_bytes: u32,
    pub header_fields: usize,
    pub url: usize,
    pub path: usize,
    pub streams: u32,
    pub connections: usize,
    pub connections_per_address: usize,
    pub connections_per_peer: usize,
    pub unauthenticated_connections: usize,
    pub unauthenticated_streams: u32,
    pub refusals: u32,
    pub list_rate: usize,
    pub lists: usize,
    pub lists_per_peer: usize,
    pub rate_unauthenticated: Rate,
    pub rate_per_address: Rate,
    pub rate_per_peer: Rate,
    pub requests_per_peer: usize,
    pub watches_per_peer: usize,
    pub watches: usize,
    pub upstream_connections: usize,
}

/// A `--limit` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No `=`.
    #[error("--limit: expected NAME=VALUE, for example `watch=10m`, found `{0}`")]
    Form(String),
    #[error("--limit {name}: there is no such limit; {}", others(*.nearest))]
    Name {
        /// What was asked for.
        name: String,
        /// The nearest one that there is.
        nearest: Option<&'static str>,
    },
    /// A value that is none.
    #[error("--limit {name}: expected {wanted}, found `{value}`")]
    Value { name: String, value: String, wanted: Wanted },
}

/// Values that limits have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wanted {
    #[error("a time above zero, such as `500ms`, `30s`, `10m` or `1h`")]
    Time,
    #[error("a number from 1 to 10000000")]
    Count,
    #[error("two numbers above zero, requests a second and at once, such as `20/100`")]
    Rate,
}

fn others(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        |near| format!("did you mean `{near}`?"),
    )
}

/// A limit: how it is set, what it is of, and which roles have it.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// As `--limit` takes it.
    pub name: &'static str,
    /// What it limits.
    pub meaning: &'static str,
    /// Roles that have it, by their names on the command line.
    pub roles: &'static [&'static str],
    field: fn(&mut RoleLimits) -> LimitField<'_>,
}

/// The field of a limit, by the form of its values.
enum LimitField<'l> {
    Time(&'l mut Duration),
    Count(&'l mut u32),
    Number(&'l mut usize),
    Rate(&'l mut Rate),
}

impl Limit {
    /// Its value, written as `--limit` takes it.
    pub fn value(&self, limits: &RoleLimits) -> String {
        match (self.field)(&mut limits.clone()) {
            LimitField::Time(time) => shown(*time),
            LimitField::Count(count) => count.to_string(),
            LimitField::Number(number) => number.to_string(),
            LimitField::Rate(rate) => rate.to_string(),
        }
    }
}

const fn limit(
    name: &'static str,
    roles: &'static [&'static str],
    meaning: &'static str,
    field: fn(&mut RoleLimits) -> LimitField<'_>,
) -> Limit {
    Limit { name, meaning, roles, field }
}

const ALL_ROLES: &[&str] = &["exporter", "proxy", "relay"];
/// Those that pass on what an apiserver answers.
const STREAMING: &[&str] = &["proxy", "relay"];
/// That whose clients are peers.
const PROXY: &[&str] = &["proxy"];
/// Those whose clients show a token of a peer.
const TOKENS: &[&str] = &["exporter", "proxy"];

/// All limits, by name.
pub const ALL: [Limit; 30] = [
    limit("connections", ALL_ROLES, "connections at a time", |limits| LimitField::Number(&mut limits.connections)),
    limit(
        "connections-per-address",
        ALL_ROLES,
        "connections at a time from one address that have shown no token; another takes the place of the oldest",
        |limits| LimitField::Number(&mut limits.connections_per_address),
    ),
    limit("connections-per-peer", TOKENS, "connections at a time of one peer", |limits| {
        LimitField::Number(&mut limits.connections_per_peer)
    }),
    limit("drain", ALL_ROLES, "what requests get to end, after the lame-duck time", |limits| {
        LimitField::Time(&mut limits.drain)
    }),
    limit("handshake", ALL_ROLES, "TLS handshake", |limits| LimitField::Time(&mut limits.handshake)),
    limit("header", ALL_ROLES, "from the connection, or the last answer, to the end of a request's header", |limits| {
        LimitField::Time(&mut limits.header)
    }),
    limit("header-bytes", ALL_ROLES, "bytes of a request's header", |limits| {
        LimitField::Count(&mut limits.header_bytes)
    }),
    limit("header-fields", ALL_ROLES, "header fields of a request", |limits| {
        LimitField::Number(&mut limits.header_fields)
    }),
    limit("idle", ALL_ROLES, "a connection without a request", |limits| LimitField::Time(&mut limits.idle)),
    limit("lame-duck", ALL_ROLES, "still answering after SIGTERM, but not ready", |limits| {
        LimitField::Time(&mut limits.lame_duck)
    }),
    limit("list", STREAMING, "a list", |limits| LimitField::Time(&mut limits.list)),
    limit(
        "list-rate",
        STREAMING,
        "bytes a second that a client has to take of a list, on average, after 10 seconds",
        |limits| LimitField::Number(&mut limits.list_rate),
    ),
    limit("lists", PROXY, "lists at a time of more than 64 KiB", |limits| LimitField::Number(&mut limits.lists)),
    limit("lists-per-peer", PROXY, "the same of one peer", |limits| LimitField::Number(&mut limits.lists_per_peer)),
    limit("path", STREAMING, "bytes of a request's path", |limits| LimitField::Number(&mut limits.path)),
    limit(
        "rate-per-address",
        ALL_ROLES,
        "requests a second from one address without a token that is known, and how many at once",
        |limits| LimitField::Rate(&mut limits.rate_per_address),
    ),
    limit("rate-per-peer", TOKENS, "requests a second of one peer, and how many at once", |limits| {
        LimitField::Rate(&mut limits.rate_per_peer)
    }),
    limit(
        "rate-unauthenticated",
        ALL_ROLES,
        "requests a second from all addresses without a token that is known, and how many at once",
        |limits| LimitField::Rate(&mut limits.rate_unauthenticated),
    ),
    limit("refusals", ALL_ROLES, "refused requests of a connection, before it is closed", |limits| {
        LimitField::Count(&mut limits.refusals)
    }),
    limit("request", ALL_ROLES, "a request that is neither a list nor a watch", |limits| {
        LimitField::Time(&mut limits.request)
    }),
    limit("requests-per-peer", PROXY, "requests at a time of one peer, watches included", |limits| {
        LimitField::Number(&mut limits.requests_per_peer)
    }),
    limit("stall", ALL_ROLES, "a client that takes nothing of its answer", |limits| {
        LimitField::Time(&mut limits.stall)
    }),
    limit("streams", ALL_ROLES, "requests at a time on an HTTP/2 connection", |limits| {
        LimitField::Count(&mut limits.streams)
    }),
    limit(
        "unauthenticated-connections",
        ALL_ROLES,
        "connections at a time that have shown no token; another takes the place of the oldest",
        |limits| LimitField::Number(&mut limits.unauthenticated_connections),
    ),
    limit("unauthenticated-streams", ALL_ROLES, "requests at a time on such a connection over HTTP/2", |limits| {
        LimitField::Count(&mut limits.unauthenticated_streams)
    }),
    limit(
        "upstream-connections",
        STREAMING,
        "connections to the apiserver, or to one peer, of 90 requests each",
        |limits| LimitField::Number(&mut limits.upstream_connections),
    ),
    limit("url", ALL_ROLES, "bytes of a request's URL", |limits| LimitField::Number(&mut limits.url)),
    limit("watch", STREAMING, "a watch; never longer than its token", |limits| LimitField::Time(&mut limits.watch)),
    limit("watches", STREAMING, "watches at a time", |limits| LimitField::Number(&mut limits.watches)),
    limit("watches-per-peer", STREAMING, "watches at a time of one peer", |limits| {
        LimitField::Number(&mut limits.watches_per_peer)
    }),
];

fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|limit| limit.name)
}

/// A time in its largest whole unit.
fn shown(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.as_millis());
    match seconds {
        _ if time.subsec_nanos() != 0 => format!("{millis}ms"),
        _ if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

impl RoleLimits {
    /// Those of the metadata-exporter.
    pub fn of_exporter() -> Self {
        Self {
            header: Duration::from_secs(5),
            request: Duration::from_secs(10),
            idle: Duration::from_mins(1),
            drain: Duration::from_secs(5),
            url: 1024,
            path: 1024,
            streams: 16,
            connections: 500,
            connections_per_address: 32,
            rate_per_address: Rate { per_second: 5, burst: 10 },
            rate_per_peer: Rate { per_second: 2, burst: 10 },
            ..Self::of_proxy()
        }
    }

    /// Those of the relay, whose lists wait for a peer that is away, and whose one client begins with many requests at once: a
    /// dozen for each peer.
    pub fn of_relay() -> Self {
        Self {
            list: Duration::from_mins(5),
            unauthenticated_streams: 64,
            rate_per_address: Rate { per_second: 500, burst: 5000 },
            rate_unauthenticated: Rate { per_second: 500, burst: 5000 },
            ..Self::of_proxy()
        }
    }

    /// Those of the api-proxy.
    pub fn of_proxy() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            request: Duration::from_mins(1),
            list: Duration::from_mins(1),
            watch: Duration::from_mins(30),
            stall: Duration::from_secs(30),
            idle: Duration::from_mins(5),
            lame_duck: Duration::from_secs(5),
            drain: Duration::from_secs(15),
            header_bytes: 8 * 1024,
            header_fields: 64,
            url: 8 * 1024,
            path: 2 * 1024,
            streams: 250,
            connections: 1000,
            connections_per_address: 100,
            connections_per_peer: 100,
            unauthenticated_connections: 200,
            unauthenticated_streams: 8,
            refusals: 10,
            list_rate: 4 * 1024,
            lists: 128,
            lists_per_peer: 32,
            rate_unauthenticated: Rate { per_second: 200, burst: 500 },
            rate_per_address: Rate { per_second: 20, burst: 100 },
            rate_per_peer: Rate { per_second: 100, burst: 200 },
            requests_per_peer: 256,
            watches_per_peer: 200,
            watches: 5000,
            upstream_connections: 64,
        }
    }

    /// Sets one, written as `NAME=VALUE`.
    pub fn set(&mut self, text: &str) -> Result<(), LimitError> {
        let (name, value) = text.split_once('=').ok_or_else(|| LimitError::Form(text.to_owned()))?;
        let wrong = |wanted| LimitError::Value { name: name.to_owned(), value: value.to_owned(), wanted };
        let time = || duration(value).ok_or_else(|| wrong(Wanted::Time));
        let count = || value.parse().ok().filter(|n| (1..=10_000_000).contains(n)).ok_or_else(|| wrong(Wanted::Count));
        let number = || count().map(|n: u32| usize::try_from(n).unwrap_or(usize::MAX));
        let rate = || {
            let parts = value.split_once('/').and_then(|(each, burst)| Some((each.parse().ok()?, burst.parse().ok()?)));
            parts
                .filter(|(each, burst)| *each > 0 && *burst > 0)
                .map(|(per_second, burst)| Rate { per_second, burst })
                .ok_or_else(|| wrong(Wanted::Rate))
        };
        let Some(limit) = ALL.iter().find(|limit| limit.name == name) else {
            let nearest = crate::types::diagnostic::did_you_mean(name, names());
            return Err(LimitError::Name { name: name.to_owned(), nearest });
        };
        match (limit.field)(self) {
            LimitField::Time(field) => *field = time()?,
            LimitField::Count(field) => *field = count()?,
            LimitField::Number(field) => *field = number()?,
            LimitField::Rate(field) => *field = rate()?,
        }
        Ok(())
    }

    /// The part that the server itself enforces. `streaming`: answers may take as long as their handler lets them.
    pub fn server(&self, streaming: bool) -> ServerLimits {
        ServerLimits {
            handshake: self.handshake,
            header: self.header,
            request: (!streaming).then_some(self.request),
            idle: self.idle,
            drain: self.drain,
            stall: self.stall,
            longest: if streaming { self.watch.max(self.list) + Duration::from_mins(1) } else { self.request * 2 },
            connections: self.connections,
            connections_of_peer: self.connections_per_peer,
            unauthenticated_connections: self.unauthenticated_connections,
            unauthenticated_streams: self.unauthenticated_streams,
            refusals: self.refusals,
            connections_of_one: self.connections_per_address,
            header_fields: self.header_fields,
            header_bytes: self.header_bytes,
            url: self.url,
            body: false,
            streams: self.streams,
            trusted_proxies: Vec::new(),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok().filter(|n| (1..=10_000_000).contains(n))?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}

/// The part of an address that limits are counted by: an IPv4 address, or an IPv6 /64.
pub fn client_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Most buckets that are remembered; full ones are forgotten first.
const MAX_BUCKETS: usize = 10_000;

/// A token bucket for each key.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets that are full.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes one from the bucket of a key, or says how long to wait for it.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let (each, burst) = (f64::from(self.rate.per_second), f64::from(self.rate.burst));
        let refilled = |bucket: &Bucket| {
            (now.saturating_duration_since(bucket.at).as_secs_f64().mul_add(each, bucket.left)).min(burst)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| refilled(bucket) < burst);
            if buckets.len() >= MAX_BUCKETS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: burst, at: now });
        let left = refilled(bucket);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / each));
        }
        *bucket = Bucket { left: left - 1.0, at: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_set_and_only_those() {
        for limit in ALL {
            let name = limit.name;
            let mut limits = RoleLimits::of_proxy();
            let value = match name {
                "rate-per-address" | "rate-per-peer" | "rate-unauthenticated" => "3/7",
                "drain" | "handshake" | "header" | "idle" | "lame-duck" | "list" | "request" | "stall" | "watch" => {
                    "77s"
                }
                _ => "77",
            };
            limits.set(&format!("{name}={value}")).unwrap();
            assert_ne!(limits, RoleLimits::of_proxy(), "{name}");
            assert_eq!(limit.value(&limits), value, "{name}");
        }
        let error = |text: &str| RoleLimits::of_proxy().set(text).unwrap_err().to_string();
        assert_eq!(error("strems=1"), "--limit strems: there is no such limit; did you mean `streams`?");
        assert!(
            error("nothing-of-the-kind=1")
                .starts_with("--limit nothing-of-the-kind: there is no such limit; there are connections, ")
        );
        assert!(error("watch").contains("NAME=VALUE"));
        for wrong in [
            "watch=0s",
            "watch=5",
            "watch=",
            "watch=-1s",
            "streams=0",
            "streams=1s",
            "rate-per-peer=1",
            "rate-per-peer=0/1",
        ] {
            assert!(RoleLimits::of_proxy().set(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(Rate { per_second: 10, burst: 3 });
        let start = Instant::now();
        let taken = (0..5).filter(|_| buckets.take("a", start).is_ok()).count();
        assert_eq!(taken, 3);
        assert!(buckets.take("b", start).is_ok());
        let wait = buckets.take("a", start).unwrap_err();
        assert!(wait <= Duration::from_millis(100) && wait > Duration::from_millis(90), "{wait:?}");
        assert!(buckets.take("a", start + Duration::from_millis(101)).is_ok());
        assert!(buckets.take("a", start + Duration::from_millis(102)).is_err());
        let later = (0..9).filter(|_| buckets.take("a", start + Duration::from_hours(1)).is_ok()).count();
        assert_eq!(later, 3);
    }

    #[test]
    fn buckets_do_not_grow_without_end() {
        let buckets = Buckets::new(Rate { per_second: 1, burst: 2 });
        let start = Instant::now();
        assert!((0..MAX_BUCKETS).all(|key| buckets.take(key, start).is_ok()));
        assert!(buckets.take(MAX_BUCKETS, start).is_err());
        assert!(buckets.take(MAX_BUCKETS, start + Duration::from_secs(2)).is_ok());
        assert_eq!(buckets.buckets.lock().unwrap().len(), 1);
    }
}
