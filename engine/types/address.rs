//! Addresses: where metadata, api-proxies and gateways are, and which of them may be believed.
//!
//! A peer's address is hostile until its grammar and its class are known: a gateway address steers traffic, an api host
//! receives tokens. Numeric look-alikes (`0x7f.1`), final dots and loopback names are no addresses here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::name::{InvalidName, is_dns_name};

/// A host: a DNS name or an IP literal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A lower-case DNS name whose last label is not numeric.
    Name(String),
    /// An IP literal; an IPv4-mapped IPv6 address is held as IPv4.
    Address(IpAddr),
}

impl Host {
    /// Whether the host's own text says that it can only be an inside address: loopback, link-local, multicast,
    /// unspecified, broadcast, also when embedded in IPv6 (mapped, NAT64, 6to4), or the name `localhost`.
    pub fn is_inward(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(address) => is_inward(*address),
        }
    }
}

/// Whether an address must not be dialled, nor taken from a peer, unless a spec allows it by name.
pub fn is_inward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_inward_v4(v4),
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || (v6.segments()[0] & 0xffc0) == 0xfe80
                || METADATA_V6.contains(&v6)
                || embedded_v4(v6).is_some_and(is_inward_v4)
        }
    }
}

fn is_inward_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || v4.octets()[0] == 0
        || METADATA_V4.contains(&v4)
}

/// Metadata services of clouds that are not link-local: Azure (wire server), Alibaba, Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// The same over IPv6: AWS, Google Cloud.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Ranges that hold the inward addresses of each kind.
const INWARD: [(IpAddr, u8); 14] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32),
    (IpAddr::V4(METADATA_V4[0]), 32),
    (IpAddr::V4(METADATA_V4[1]), 32),
    (IpAddr::V4(METADATA_V4[2]), 32),
    // unspecified, loopback, and IPv4 in disguise
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 96),
    (IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), 96),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
    (IpAddr::V6(METADATA_V6[0]), 128),
    (IpAddr::V6(METADATA_V6[1]), 128),
];

/// Which addresses a relay dials: outward ones, those of no range of its own cluster, and whatever a spec allows by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialPolicy {
    /// Ranges that a spec allows, whatever they are.
    pub allow: Vec<Cidr>,
    /// Pod and service ranges of the own cluster.
    pub own: Vec<Cidr>,
}

/// An address that is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDialable {
    /// Loopback, link-local, multicast, unspecified, or a cloud's metadata service.
    #[error("{0} is an inside address")]
    Inward(IpAddr),
    #[error("{0} is an address of this cluster")]
    OwnCluster(IpAddr),
}

impl DialPolicy {
    /// Whether an address that a name was resolved to may be dialled.
    pub fn judge(&self, address: IpAddr) -> Result<(), NotDialable> {
        let is_in = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(address));
        if is_in(&self.allow) {
            Ok(())
        } else if is_inward(address) {
            Err(NotDialable::Inward(address))
        } else if is_in(&self.own) {
            Err(NotDialable::OwnCluster(address))
        } else {
            Ok(())
        }
    }
}

/// The IPv4 address inside a mapped (`::ffff:0:0/96`), compatible (`::/96`), NAT64 (`64:ff9b::/96`, RFC 6052) or 6to4
/// (`2002::/16`, RFC 3056) address.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(from(high, low))
        }
        _ => None,
    }
}

impl FromStr for Host {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| InvalidName { kind: "host", text: text.to_owned(), rule };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if !is_dns_name(text) {
            return Err(invalid("a lower-case DNS name without a final dot, or an IP address"));
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(invalid("its last label begins with a digit, so resolvers may read it as a number"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.pad(name),
            Self::Address(address) => f.pad(&address.to_string()),
        }
    }
}

/// `host` or `host:port` of an api-proxy, without scheme and path; an IPv6 address is in brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiHost {
    pub host: Host,
    /// The port, when it is not 443.
    pub port: Option<u16>,
}

impl FromStr for ApiHost {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| InvalidName { kind: "api host", text: text.to_owned(), rule };
        let rule = "`host` or `host:port`, without scheme and path, IPv6 in brackets";
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or_else(|| invalid(rule))?;
            let address: Ipv6Addr = address.parse().map_err(|_| invalid(rule))?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or_else(|| invalid(rule))?),
            };
            (Host::Address(IpAddr::V6(address).to_canonical()), port)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            (host.parse().map_err(|_| invalid(rule))?, port)
        };
        let port = port.map(|port| parse_port(port).ok_or_else(|| invalid("its port is no number from 1 to 65535")));
        Ok(Self { host, port: port.transpose()?.filter(|&port| port != 443) })
    }
}

/// A port from 1 to 65535, in plain digits.
fn parse_port(text: &str) -> Option<u16> {
    let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for ApiHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]")?,
            host => write!(f, "{host}")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The public address of an ingress (east-west) gateway. Ordered by address as text, then port, as Deckhouse sorts them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// IP or DNS name.
    pub address: Host,
    /// 1 to 65535; Istio's default is 15443.
    pub port: u16,
}

impl Gateway {
    /// A gateway from its wire form.
    pub fn new(address: &str, port: u64) -> Result<Self, InvalidName> {
        let bad_port =
            || InvalidName { kind: "gateway port", text: port.to_string(), rule: "a number from 1 to 65535" };
        let port = u16::try_from(port).ok().filter(|&port| port != 0).ok_or_else(bad_port)?;
        Ok(Self { address: address.parse()?, port })
    }
}

impl PartialOrd for Gateway {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Gateway {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.address.to_string(), self.port).cmp(&(other.address.to_string(), other.port))
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
            address => write!(f, "{address}:{}", self.port),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WireGateway {
    address: String,
    port: u64,
}

impl Serialize for Gateway {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WireGateway { address: self.address.to_string(), port: self.port.into() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Gateway {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireGateway { address, port } = WireGateway::deserialize(deserializer)?;
        // names as DNS takes them: in any case, and rooted by a final dot
        let address = address.strip_suffix('.').unwrap_or(&address).to_ascii_lowercase();
        Self::new(&address, port).map_err(serde::de::Error::custom)
    }
}

/// A range of addresses in CIDR notation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other, bits) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let shift = bits - u32::from(self.prefix);
        own.checked_shr(shift) == other.checked_shr(shift)
    }

    /// The range of one address.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether any address of the range is [inward](is_inward), so that naming it allows what is refused otherwise.
    pub fn holds_inward(&self) -> bool {
        is_inward(self.address)
            || INWARD
                .iter()
                .any(|&(address, prefix)| self.contains(address) || Self { address, prefix }.contains(self.address))
    }
}

impl FromStr for Cidr {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            kind: "address range",
            text: text.to_owned(),
            rule: "an IP address, or one with `/` and a prefix length",
        };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix.parse().ok().filter(|&prefix| prefix <= bits).ok_or_else(invalid)?,
        };
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A host name, or `*.` and a domain: any name below it.
#[derive(Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exact(Host),
    /// Any name that ends with `.` and this domain.
    Below(String),
}

impl HostPattern {
    /// Whether the host matches.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(own), host) => own == host,
            (Self::Below(domain), Host::Name(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.strip_prefix("*.") {
            Some(domain) if is_dns_name(domain) => Ok(Self::Below(domain.to_owned())),
            _ => text.parse().map(Self::Exact).map_err(|_| InvalidName {
                kind: "host pattern",
                text: text.to_owned(),
                rule: "a host, or `*.` and a domain",
            }),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a cluster's metadata is read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `https://host[:port]/path`, without user, query and fragment, without a final slash.
    Https {
        /// Host of the exporter.
        host: Host,
        /// Port; 443 when the URL names none.
        port: u16,
        /// Path prefix, empty or beginning with `/`.
        path: String,
    },
    /// `file://` and a folder below the checkout, with the same paths below it.
    File(String),
}

impl Endpoint {
    /// The URL of a document, for example `public/public.json`.
    pub fn url(&self, document: &str) -> String {
        format!("{self}/{document}")
    }

    /// Whether the CRD of Deckhouse's IstioMulticluster admits it: no address of IPv6, no folder, and a port only where that
    /// revision has one.
    pub fn fits_deckhouse(&self, with_port: bool) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-');
        let admits = |byte: u8| plain(byte) || with_port && byte == b':';
        let has_name = |host: &Host| host.to_string().bytes().all(plain);
        let Self::Https { host, .. } = self else { return false };
        has_name(host) && self.to_string().trim_start_matches("https://").bytes().all(admits)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| InvalidName { kind: "metadata endpoint", text: text.to_owned(), rule };
        let rule =
            "`https://host[:port]/path` without user, query and fragment, or `file://` and a folder of the checkout";
        let is_path = |path: &str| {
            path.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'))
        };
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if let Some(folder) = trimmed.strip_prefix("file://") {
            return if is_path(folder) {
                Ok(Self::File(folder.to_owned()))
            } else {
                Err(invalid("`file://` is followed by a folder below the checkout, without `.` and `..`"))
            };
        }
        let Some(rest) = trimmed.strip_prefix("https://") else {
            let has_scheme = trimmed.contains("://");
            return Err(invalid(if has_scheme { "its scheme is neither `https://` nor `file://`" } else { rule }));
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        let is_port = |text: &str| text.parse().is_ok_and(|port: u16| port != 0);
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        if port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && !is_port(port)) {
            return Err(invalid("its port is no number from 1 to 65535"));
        }
        let ApiHost { host, port } = authority.parse().map_err(|_| invalid(rule))?;
        if !path.is_empty() && !is_path(path.trim_start_matches('/')) || path.starts_with("//") {
            return Err(invalid(rule));
        }
        Ok(Self::Https { host, port: port.unwrap_or(443), path })
    }
}

/// A text that is no address to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address and a port, such as `127.0.0.1:9090` or `[::]:9090`")]
pub(crate) struct InvalidListenAddress;

/// An address to listen at: `127.0.0.1:9090` or `[::]:9090`; port 0 takes a free one.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, InvalidListenAddress> {
    text.parse().map_err(|_| InvalidListenAddress)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https { host, port, path } => {
                let authority = ApiHost { host: host.clone(), port: Some(*port).filter(|&port| port != 443) };
                write!(f, "https://{authority}{path}")
            }
            Self::File(folder) => write!(f, "file://{folder}"),
        }
    }
}

macro_rules! text_type {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    )*};
}
text_type!(Host, ApiHost, Cidr, HostPattern, Endpoint);

macro_rules! debug_as_display {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(Host, ApiHost, Gateway, Endpoint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_disguise_are_no_hosts() {
        for bad in
            ["0x7f.1", "127.1", "2130706433", "localhost.", "a..b", "", "EXAMPLE.com", "1.2.3.4.5", "::1%lo", "a b"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
        for good in ["gw.example.com", "203.0.113.7", "2001:db8::1", "xn--bcher-kva.example"] {
            assert_eq!(good.parse::<Host>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn inward_addresses_are_known_in_every_dress() {
        for inward in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "localhost",
            "a.localhost",
        ] {
            assert!(inward.parse::<Host>().unwrap().is_inward(), "{inward}");
        }
        for outward in ["203.0.113.7", "10.0.0.1", "2001:db8::1", "64:ff9b::cb00:7107", "localhost.example.com"] {
            assert!(!outward.parse::<Host>().unwrap().is_inward(), "{outward}");
        }
    }

    #[test]
    fn a_range_says_whether_it_holds_what_is_refused_otherwise() {
        for holds in
            ["127.0.0.0/8", "127.0.0.1", "0.0.0.0/0", "168.63.0.0/16", "::1", "::/0", "fe80::1/128", "fd00::/8"]
        {
            assert!(holds.parse::<Cidr>().unwrap().holds_inward(), "{holds}");
        }
        for outward in ["10.0.0.0/8", "203.0.113.7", "192.168.0.0/16", "2001:db8::/32", "fd00:1::/32"] {
            assert!(!outward.parse::<Cidr>().unwrap().holds_inward(), "{outward}");
        }
    }

    #[test]
    fn what_is_inside_is_dialled_only_where_a_spec_names_it() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
        let policy =
            DialPolicy { allow: ranges(&["127.0.0.0/8", "10.96.1.0/24"]), own: ranges(&["10.96.0.0/12", "fd01::/64"]) };
        let judge = |text: &str| policy.judge(text.parse().unwrap());
        for dialled in ["127.0.0.1", "10.96.1.9", "10.1.2.3", "203.0.113.7", "2001:db8::1"] {
            assert_eq!(judge(dialled), Ok(()), "{dialled}");
        }
        for refused in ["169.254.169.254", "::1", "100.100.100.200", "0.0.0.0", "fe80::1"] {
            assert!(matches!(judge(refused), Err(NotDialable::Inward(_))), "{refused}");
        }
        for refused in ["10.96.0.1", "::ffff:10.96.0.1", "fd01::7"] {
            assert!(matches!(judge(refused), Err(NotDialable::OwnCluster(_))), "{refused}");
        }
    }

    #[test]
    fn an_api_host_has_no_path_and_no_scheme() {
        for bad in [
            "https://a",
            "a/b",
            "a:0",
            "a:65536",
            "a:",
            "a:+1",
            "a:080",
            "[::1",
            "[1.2.3.4]",
            "user@a",
            "a\nb",
            "[::1]x",
        ] {
            assert!(bad.parse::<ApiHost>().is_err(), "{bad:?}");
        }
        for (text, normal) in [
            ("a.example", "a.example"),
            ("a:443", "a"),
            ("a:8443", "a:8443"),
            ("[2001:db8::1]:6443", "[2001:db8::1]:6443"),
        ] {
            assert_eq!(text.parse::<ApiHost>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn an_endpoint_is_https_or_a_folder_of_the_checkout() {
        for bad in [
            "http://a/b",
            "https://",
            "https://a/b?c",
            "https://a/b#c",
            "https://u@a/b",
            "https://a//b",
            "https://a/../b",
            "file:///etc",
            "file://a/../b",
            "file://",
            "a",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
        for good in [
            "https://m.example/metadata",
            "https://m.example:8443",
            "file://metadata/east",
            "https://[2001:db8::1]:8443/m",
        ] {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        assert_eq!(
            "https://m.example/metadata/".parse::<Endpoint>().unwrap().url("public/public.json"),
            "https://m.example/metadata/public/public.json"
        );
    }

    #[test]
    fn a_range_contains_what_its_prefix_says() {
        let contains = |range: &str, address: &str| range.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
        assert!(contains("203.0.113.0/24", "203.0.113.255") && !contains("203.0.113.0/24", "203.0.114.0"));
        assert!(contains("0.0.0.0/0", "8.8.8.8") && contains("::/0", "2001:db8::1") && !contains("::/0", "8.8.8.8"));
        assert!(contains("203.0.113.7", "::ffff:203.0.113.7"));
        assert!("203.0.113.0/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn a_pattern_matches_names_below_it_only() {
        let matches =
            |pattern: &str, host: &str| pattern.parse::<HostPattern>().unwrap().matches(&host.parse().unwrap());
        assert!(matches("*.east.example.com", "api.east.example.com"));
        assert!(
            !matches("*.east.example.com", "east.example.com") && !matches("*.east.example.com", "fooeast.example.com")
        );
    }
}
