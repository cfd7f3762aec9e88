//! Peers that cannot be read: each of a mesh's clusters is named by the code that its endpoint deserves.

use std::net::ToSocketAddrs as _;

use isthmus::types::address::Host;
use isthmus::types::explanation::Code;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;

use super::{PrintedReason, Scenario, reasons};
use crate::support::checkout::Checkout;
use crate::support::environment::{Ran, TestEnvironment};
use crate::support::peer::{Ca, Peer, PeerStep, Serving, answer, json, send};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "peers that cannot be read",
        codes: &[
            Code::HostNotFound,
            Code::PeerUnreachable,
            Code::PeerTimedOut,
            Code::CertificateUnknownIssuer,
            Code::CertificateNotByGivenCa,
            Code::CertificateExpired,
            Code::CertificateNotYetValid,
            Code::CertificateWrongName,
            Code::TlsFailed,
            Code::AddressNotAllowed,
            Code::DocumentNotFound,
            Code::PeerNotReady,
            Code::UnexpectedStatus,
            Code::RedirectNotFollowed,
            Code::AnswerTooLarge,
            Code::HeadersTooLarge,
            Code::AnswerTooSlow,
            Code::AnswerBroken,
            Code::AnswerEncoded,
            Code::AnswerNotJson,
            Code::DocumentMalformed,
            Code::DocumentIncomplete,
            Code::FileMissing,
            Code::FileUnreadable,
            Code::PublicDocumentNotRead,
        ],
        run: peers_that_cannot_be_read,
    },
    Scenario {
        name: "a machine without CA certificates",
        codes: &[Code::RequestNotPrepared],
        run: a_machine_without_ca_certificates,
    },
];

/// What a cluster's endpoint is and who vouches for it, as lines of its spec.
fn cluster(code: Code, endpoint: &str, more: &str) -> String {
    format!(
        "---\napiVersion: isthmus.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {code}}}\nspec:\n  reconciler: external\n  \
         metadata: {{endpoint: \"{endpoint}\"{more}}}\n  allow: {{addresses: [127.0.0.0/8]}}\n"
    )
}

const MESH: &str =
    "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\nspec: {acceptForeignRoots: true}\n";
const GIVEN: &str = ", ca: {file: ca.pem}";

fn address(peer: &Peer) -> String {
    format!("https://127.0.0.1:{}/metadata", peer.address.port())
}

/// A port that is taken, so that no one else listens there, and at which no one listens.
struct Deaf(socket2::Socket);

impl Deaf {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }
}

/// A name that leads to this machine without a name server and does not show it: `localhost` would be a finding of the spec.
fn name_of_this_machine() -> String {
    let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let names = [own.as_str(), "ip6-localhost", "ip6-loopback"];
    let is_written = |name: &&str| name.parse::<Host>().is_ok();
    let leads_here = |name: &&str| (*name, 443).to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some());
    let found = names.into_iter().filter(is_written).find(leads_here);
    found.unwrap_or_else(|| panic!("this machine has no address under any of its names: {names:?}")).to_owned()
}

/// Port of a server that speaks HTTP without TLS.
fn plain_http(peers: &Handle) -> u16 {
    let listener = peers.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    peers.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // the greeting is read first: what is closed with bytes unread is reset, and the answer with it
            let mut greeting = [0; 4096];
            if stream.read(&mut greeting).await.is_ok() {
                drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await);
            }
        }
    });
    port
}

fn peers_that_cannot_be_read(peers: &Handle) -> Vec<Ran> {
    let (ca, other) = (Ca::new("peers"), Ca::new("others"));
    let own = ["127.0.0.1"];
    let good = ca.serving(&own);
    let head = |text: &str| PeerStep::Send(text.as_bytes().to_vec());
    let with = |header: &str, body: &str| answer("200 OK", header, body);
    let table: Vec<(Code, Serving, Vec<PeerStep>)> = vec![
        (Code::CertificateNotByGivenCa, other.serving(&own), json("{}")),
        (Code::CertificateExpired, ca.serving_between(&own, 2001, 2002), json("{}")),
        (Code::CertificateNotYetValid, ca.serving_between(&own, 3999, 4000), json("{}")),
        (Code::CertificateWrongName, ca.serving(&["m.west.example"]), json("{}")),
        (Code::PeerTimedOut, good.clone(), vec![PeerStep::Hang]),
        (Code::DocumentNotFound, good.clone(), answer("404 Not Found", "", "")),
        (Code::PeerNotReady, good.clone(), answer("503 Service Unavailable", "", "")),
        (Code::UnexpectedStatus, good.clone(), answer("429 Too Many Requests", "retry-after: 30\r\n", "")),
        (Code::RedirectNotFollowed, good.clone(), answer("302 Found", "location: https://login.example/\r\n", "")),
        (Code::AnswerTooLarge, good.clone(), vec![head("HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n")]),
        (Code::HeadersTooLarge, good.clone(), with(&format!("x-long: {}\r\n", "y".repeat(70_000)), "{}")),
        (Code::AnswerTooSlow, good.clone(), vec![head("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), PeerStep::Hang]),
        (Code::AnswerBroken, good.clone(), send("SSH-2.0-OpenSSH_9.9\r\n\r\n")),
        (Code::AnswerEncoded, good.clone(), with("content-encoding: gzip\r\n", "{}")),
        (Code::AnswerNotJson, good.clone(), with("content-type: text/html\r\n", "<title>Log in</title>")),
        (Code::DocumentMalformed, good.clone(), json("{")),
        (Code::DocumentIncomplete, good, json("{}")),
    ];
    let mut spec = MESH.to_owned();
    let mut kept = Vec::new();
    for (code, serving, steps) in table {
        let peer = peers.block_on(Peer::start(&serving, move |_| steps.clone()));
        spec += &cluster(code, &address(&peer), GIVEN);
        kept.push(peer);
    }
    let unknown = peers.block_on(Peer::start(&other.serving(&own), |_| json("{}")));
    spec += &cluster(Code::CertificateUnknownIssuer, &address(&unknown), "");
    kept.push(unknown);
    let deaf = Deaf::new();
    spec += &cluster(Code::PeerUnreachable, &format!("https://127.0.0.1:{}/metadata", deaf.port()), GIVEN);
    spec += &cluster(Code::TlsFailed, &format!("https://127.0.0.1:{}/metadata", plain_http(peers)), GIVEN);
    let elsewhere = cluster(Code::AddressNotAllowed, &format!("https://{}/metadata", name_of_this_machine()), GIVEN);
    spec += &elsewhere.replace("127.0.0.0/8", "203.0.113.0/24");
    spec += &cluster(Code::HostNotFound, "https://metadata.invalid/metadata", GIVEN);
    spec += &cluster(Code::FileMissing, "file://metadata/nowhere", "");
    spec += &cluster(Code::FileUnreadable, "file://metadata/folder", "");

    let environment = TestEnvironment::new();
    let roots = environment.path("roots.pem");
    std::fs::write(&roots, Ca::new("system").pem).unwrap();
    let checkout = Checkout::in_environment(
        // a resolver that is not there is given up at once
        environment.with("SSL_CERT_FILE", roots).with("RES_OPTIONS", "timeout:1 attempts:1"),
    );
    checkout.write("ca.pem", ca.pem.as_bytes());
    checkout.write("metadata/folder/public/public.json/is-a-folder", b"");
    checkout.write("specs/mesh.yaml", spec.as_bytes());
    let ran = checkout.engine(&["plan", "--output", "json"]);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    for step in plan["steps"].as_array().unwrap_or_else(|| panic!("{ran}")) {
        let id = step["step"].as_str().unwrap_or_else(|| panic!("{step}"));
        if let Some(cluster) = id.strip_prefix("fetch-ca/") {
            let mut found: Vec<PrintedReason> = Vec::new();
            reasons(step, &mut found);
            let codes: Vec<&str> = found.iter().map(|reason| reason.code.as_str()).collect();
            assert_eq!(codes, [cluster], "each cluster fails in the way it is named by: {found:?}");
        }
    }
    drop((kept, deaf));
    vec![ran]
}

fn a_machine_without_ca_certificates(_: &Handle) -> Vec<Ran> {
    let environment = TestEnvironment::new().with("SSL_CERT_FILE", "/dev/null").with("SSL_CERT_DIR", "/dev/null");
    let checkout = Checkout::in_environment(environment);
    let code = Code::RequestNotPrepared;
    checkout.write("specs/mesh.yaml", (MESH.to_owned() + &cluster(code, "https://127.0.0.1/metadata", "")).as_bytes());
    vec![checkout.engine(&["plan", "--output", "json"])]
}
