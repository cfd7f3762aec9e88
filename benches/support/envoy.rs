//! Envoys that pass the same requests on as the api-proxy, with one worker: with nothing else to do, and with its duties, which are
//! to verify a token, to judge what is asked for, and to record it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use isthmus::types::token::ISSUER;
use serde_json::{Value, json};

use crate::process::{OWN, PEER, signer};

/// What an Envoy does beside passing requests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duties {
    Nothing,
    /// `jwt_authn`, RBAC and an access log.
    Tokens,
    /// The same, with what was found of a token kept.
    CachedTokens,
}

/// The key of the peer as a JSON Web Key Set (RFC 8037).
fn keys() -> String {
    let pem = signer().public().to_pem();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(base64).unwrap();
    // the key itself ends the structure that says what it is (RFC 8410)
    let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x }] }).to_string()
}

fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
    value
}

fn filters(duties: Duties) -> Vec<Value> {
    let filter = |name: &str, kind: &str, value: Value| json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": typed(kind, value) });
    let router = filter("router", "filters.http.router.v3.Router", json!({}));
    if duties == Duties::Nothing {
        return vec![router];
    }
    let mut provider = json!({ "issuer": ISSUER, "audiences": [OWN], "payload_in_metadata": "token",
        "local_jwks": { "inline_string": keys() } });
    if duties == Duties::CachedTokens {
        provider["jwt_cache_config"] = json!({ "jwt_cache_size": 100 });
    }
    let rule = json!({ "match": { "prefix": "/" }, "requires": { "provider_name": "peers" } });
    let tokens = json!({ "providers": { "peers": provider }, "rules": [rule] });
    let of_peer = json!({ "metadata": { "filter": "envoy.filters.http.jwt_authn", "path": [{ "key": "token" }, { "key": "sub" }],
        "value": { "string_match": { "exact": PEER } } } });
    let may = json!({ "and_rules": { "rules": [
        { "header": { "name": ":method", "string_match": { "exact": "GET" } } },
        { "url_path": { "path": { "safe_regex": { "regex": "/api/v1/(namespaces/[a-z0-9-]+/)?(services|pods)(/[a-z0-9.-]+)?" } } } },
    ] } });
    let policy = json!({ "permissions": [may], "principals": [of_peer] });
    vec![
        filter("jwt_authn", "filters.http.jwt_authn.v3.JwtAuthentication", tokens),
        filter(
            "rbac",
            "filters.http.rbac.v3.RBAC",
            json!({ "rules": { "action": "ALLOW", "policies": { "peers": policy } } }),
        ),
        router,
    ]
}

fn config(folder: &Path, name: &str, duties: Duties, (port, origin): (u16, u16)) -> Value {
    let file = |file: &str| json!({ "filename": folder.join(file) });
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let pair = json!({ "certificate_chain": file("tls.crt"), "private_key": file("tls.key") });
    let tls = json!({ "name": "tls", "typed_config": typed("transport_sockets.tls.v3.DownstreamTlsContext",
        json!({ "common_tls_context": { "tls_certificates": [pair], "alpn_protocols": ["h2"] } })) });
    let trusts = json!({ "validation_context": { "trusted_ca": file("tls.crt") }, "alpn_protocols": ["h2"] });
    let upstream_tls = json!({ "name": "tls", "typed_config": typed("transport_sockets.tls.v3.UpstreamTlsContext",
        json!({ "common_tls_context": trusts })) });
    let http2 = typed(
        "upstreams.http.v3.HttpProtocolOptions",
        json!({ "explicit_http_config": { "http2_protocol_options": {} } }),
    );
    let limits = json!({ "thresholds": [{ "max_connections": 100_000, "max_requests": 100_000, "max_pending_requests": 100_000 }] });
    let upstream = json!({ "name": "origin", "type": "STATIC", "connect_timeout": "5s", "transport_socket": upstream_tls,
        "circuit_breakers": limits, "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2 },
        "load_assignment": { "cluster_name": "origin",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(origin) } }] }] } });
    let format = json!({ "time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
        "bytes": "%BYTES_SENT%", "duration": "%DURATION%", "from": "%DOWNSTREAM_REMOTE_ADDRESS%" });
    let log = typed(
        "access_loggers.file.v3.FileAccessLog",
        json!({ "path": folder.join(format!("{name}.access")), "log_format": { "json_format": format } }),
    );
    let log = if duties == Duties::Nothing { json!([]) } else { json!([{ "name": "file", "typed_config": log }]) };
    let all = json!({ "match": { "prefix": "/" }, "route": { "cluster": "origin", "timeout": "0s" } });
    let manager = json!({ "stat_prefix": "proxy", "codec_type": "HTTP2", "access_log": log, "http_filters": filters(duties),
        "http2_protocol_options": { "max_concurrent_streams": 1000 },
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [all] }] } });
    let manager = json!({ "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed("filters.network.http_connection_manager.v3.HttpConnectionManager", manager) });
    json!({ "static_resources": {
        "listeners": [{ "name": "proxy", "address": address(port), "filter_chains": [{ "transport_socket": tls, "filters": [manager] }] }],
        "clusters": [upstream],
    } })
}

/// Starts an Envoy in front of the origin at this address; gives it with its own.
pub(crate) fn start(program: &Path, folder: &Path, name: &str, duties: Duties, origin: &str) -> (Child, String) {
    // free a moment ago
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = origin.rsplit_once(':').unwrap().1.parse().unwrap();
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, config(folder, name, duties, (port, origin)).to_string()).unwrap();
    let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error", "--config-path"]).arg(&path);
    let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    (child, format!("127.0.0.1:{port}"))
}

/// The `envoy` that a shell would run.
pub(crate) fn program() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|program| program.is_file())
}
