//! Which proxy leads to an apiserver: what a kubeconfig states, else what the environment says, as kubectl reads both.
//!
//! `$HTTPS_PROXY` (or `$HTTP_PROXY` for an apiserver without TLS) in capitals comes before the same in small letters; what
//! `$NO_PROXY` names, and what runs on this machine, is asked without.

use std::net::IpAddr;

use http::Uri;

use crate::types::address::Cidr;
use crate::types::text::shown_text;

/// Schemes of proxies.
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// A proxy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{from} names no proxy: expected an http://, https:// or socks5:// URL")]
pub struct ProxyFault {
    /// What names it.
    pub from: String,
}

/// A proxy, and what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProxy {
    /// Its URL, which may hold a password.
    pub url: Uri,
    /// Such as `$HTTPS_PROXY`.
    pub from: String,
}

impl HttpProxy {
    /// That of a kubeconfig, which is used for all hosts.
    pub fn stated(url: &str, cluster: &str) -> Result<Self, ProxyFault> {
        Self::new(url, format!("`proxy-url` of the cluster `{cluster}`"))
    }

    fn new(url: &str, from: String) -> Result<Self, ProxyFault> {
        let url = url.trim();
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let url = url.trim_end_matches('/').parse::<Uri>().ok();
        let url =
            url.filter(|url| url.scheme_str().is_some_and(|scheme| SCHEMES.contains(&scheme)) && url.host().is_some());
        let Some(url) = url else { return Err(ProxyFault { from }) };
        // names are looked up by the proxy either way
        let url = if url.scheme_str() == Some("socks5h") {
            url.to_string().replacen("socks5h", "socks5", 1).parse().unwrap_or(url)
        } else {
            url
        };
        Ok(Self { url, from })
    }

    /// Its host and port, without what may be secret.
    pub fn shown(&self) -> String {
        let host = self.url.host().unwrap_or_default();
        let port = self.url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.url.scheme_str().unwrap_or("http"), shown_text(host))
    }
}

/// What the environment says of proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    https: Option<(String, String)>,
    http: Option<(String, String)>,
    without: String,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        Self::of(&|name| std::env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&str; 2]| {
            names
                .into_iter()
                .find_map(|name| Some((name.to_owned(), variable(name).filter(|value| !value.is_empty())?)))
        };
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            without: first(["NO_PROXY", "no_proxy"]).map(|(_, list)| list).unwrap_or_default(),
        }
    }

    /// The proxy to a server; `None`: it is asked without.
    pub fn proxy_of(&self, server: &Uri) -> Result<Option<HttpProxy>, ProxyFault> {
        let is_https = server.scheme_str() == Some("https");
        let wanted = if is_https { &self.https } else { &self.http };
        let host = server.host().unwrap_or_default();
        let port = server.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        match wanted {
            Some((name, url)) if !self.goes_without(host, port) => HttpProxy::new(url, format!("${name}")).map(Some),
            _ => Ok(None),
        }
    }

    /// As Go's `httpproxy` judges it.
    fn goes_without(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.without.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(
            |entry| {
                if entry == "*" {
                    return true;
                }
                if let (Some(address), Ok(range)) = (address, entry.parse::<Cidr>()) {
                    return range.contains(address);
                }
                let (name, only) = match entry.rsplit_once(':') {
                    Some((name, number)) if !name.contains(':') || name.ends_with(']') => {
                        (name, number.parse::<u16>().ok())
                    }
                    _ => (entry.as_str(), None),
                };
                if only.is_some_and(|only| only != port) {
                    return false;
                }
                let name = name.trim_start_matches('[').trim_end_matches(']');
                if let Some(address) = address {
                    return name.parse::<IpAddr>() == Ok(address);
                }
                // `.example.com` and `*.example.com` are what is below, `example.com` is that, too
                let name = name.strip_prefix('*').unwrap_or(name);
                match name.strip_prefix('.') {
                    Some(_) => host.ends_with(name),
                    None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
                }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy(variables: &[(&str, &str)], server: &str) -> Option<String> {
        environment(variables)
            .proxy_of(&server.parse().unwrap())
            .unwrap()
            .map(|proxy| format!("{} {}", proxy.from, proxy.shown()))
    }

    #[test]
    fn capitals_come_first_and_each_scheme_has_its_own() {
        let both = [("HTTPS_PROXY", "http://a:3128"), ("https_proxy", "http://b:1"), ("http_proxy", "c:80")];
        assert_eq!(proxy(&both, "https://east.example.com").as_deref(), Some("$HTTPS_PROXY http://a:3128"));
        assert_eq!(proxy(&both, "http://east.example.com").as_deref(), Some("$http_proxy http://c:80"));
        assert_eq!(proxy(&[("ALL_PROXY", "http://a")], "https://east.example.com"), None);
        let secret = [("https_proxy", "socks5h://user:word@a:1080/")];
        assert_eq!(proxy(&secret, "https://east.example.com").as_deref(), Some("$https_proxy socks5://a:1080"));
        assert_eq!(proxy(&[("HTTPS_PROXY", "")], "https://east.example.com"), None);
        let broken = environment(&[("HTTPS_PROXY", "ftp://a")]).proxy_of(&"https://east.example.com".parse().unwrap());
        assert_eq!(broken, Err(ProxyFault { from: "$HTTPS_PROXY".to_owned() }));
    }

    #[test]
    fn what_no_proxy_names_is_asked_without() {
        let asked = |without: &str, server: &str| {
            proxy(&[("HTTPS_PROXY", "http://a:3128"), ("NO_PROXY", without)], server).is_some()
        };
        for (without, server) in [
            ("*", "https://east.example.com"),
            ("example.com", "https://east.example.com"),
            ("example.com", "https://example.com"),
            (".example.com", "https://east.example.com:6443"),
            ("*.example.com", "https://east.example.com"),
            ("EXAMPLE.com ,x", "https://East.example.COM"),
            ("east.example.com:6443", "https://east.example.com:6443"),
            ("10.0.0.0/8", "https://10.1.2.3:6443"),
            ("10.1.2.3", "https://10.1.2.3:6443"),
            ("10.1.2.3:6443", "https://10.1.2.3:6443"),
            ("2001:db8::/32", "https://[2001:db8::7]:6443"),
            ("[2001:db8::7]:6443", "https://[2001:db8::7]:6443"),
            ("", "https://localhost:6443"),
            ("", "https://127.0.0.1:6443"),
            ("", "https://[::1]:6443"),
        ] {
            assert!(!asked(without, server), "{without} {server}");
        }
        for (without, server) in [
            ("", "https://east.example.com"),
            (".example.com", "https://example.com"),
            ("ample.com", "https://example.com"),
            ("east.example.com:443", "https://east.example.com:6443"),
            ("10.0.0.0/8", "https://11.1.2.3"),
            ("10.1.2.3", "https://10.1.2.30"),
            ("10.0.0.0/8", "https://ten.example.com"),
        ] {
            assert!(asked(without, server), "{without} {server}");
        }
    }
}
