//! Programs that are measured, and what an api-proxy among them needs: certificates, kubeconfig, and the token of a peer.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use isthmus::types::key::PrivateKey;
use isthmus::types::time::Timestamp;
use isthmus::types::token::{Claims, ISSUER, Scope, mint};
use serde_json::json;

/// The cluster whose api-proxy is measured, and its peer.
pub(crate) const OWN: &str = "7d0c6f0a-8f59-4c4c-9a86-54b5c1a6e5a1";
pub(crate) const PEER: &str = "1b0a77f0-5c6f-4a65-9d21-0e6a1f8b9c31";

/// Starts a program whose stderr goes to a file; gives it with the first line that it prints, its address.
pub(crate) fn start(mut command: Command, log: &Path) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(fs::File::create(log).unwrap()).spawn().unwrap();
    let address = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    (child, address)
}

/// Time on a CPU so far, of programs and kernel; Linux counts in hundredths of a second.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// A field of memory, bytes: `VmRSS:` is what is resident, `VmHWM:` its peak.
pub(crate) fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Certificate and key of this address, PEM, which are `tls.crt` and `tls.key` of the folder as well.
pub(crate) fn certificate(folder: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.join("tls.crt"), &certificate).unwrap();
    fs::write(folder.join("tls.key"), &key).unwrap();
    (certificate, key)
}

/// Writes a kubeconfig for a server with the certificate of the folder.
pub(crate) fn kubeconfig(folder: &Path, file: &str, server: &str) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{ "name": "a", "cluster": { "server": server, "certificate-authority": folder.join("tls.crt") } }],
        "users": [{ "name": "a", "user": { "token": "x" } }],
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
    });
    fs::write(folder.join(file), config.to_string()).unwrap();
}

/// The key with which the peer signs.
pub(crate) fn signer() -> PrivateKey {
    PrivateKey::generate(&[7; 32]).unwrap()
}

/// A token of the peer.
pub(crate) fn token(life: Duration) -> String {
    let now = Timestamp::from(jiff::Timestamp::now());
    let claims = Claims {
        aud: OWN.to_owned(),
        exp: now + life,
        iss: ISSUER.to_owned(),
        nbf: now,
        scope: Scope::Api,
        sub: PEER.to_owned(),
    };
    mint(&signer(), &claims, None).expose().to_owned()
}
