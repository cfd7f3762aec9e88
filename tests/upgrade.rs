//! What an earlier version wrote is planned by this one: no change but those that are meant.

use std::path::Path;

use crate::support::checkout::Checkout;

/// The right that peers no longer have.
const GATEWAYS: &str =
    "- apiGroups:\n  - gateway.networking.k8s.io\n  resources:\n  - gateways\n  verbs:\n  - get\n  - list\n  - watch\n";

/// What the metrics port is open for: namespaces with a label, and the exporter.
const METRICS: &str = "    - namespaceSelector:\n        matchLabels:\n          isthmus.dev/metrics: \"true\"\n";
const EXPORTER: &str = "  - from:\n    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: isthmus-exporter\n    ports:\n    - port: 9090\n";

/// Lines that hold a server to less: files for its user alone, clients by their own address, the relay's own objects.
const HARDENED: [&str; 4] =
    ["  externalTrafficPolicy: ", "        fsGroup: 65532", "          defaultMode: 256", "validatingadmissionpolic"];

/// Reads, and never writes, the checkout that version 0.1.0 left.
#[test]
fn the_checkout_of_0_1_0_is_what_its_specs_ask_for() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/upgrade/0.1.0");
    let checkout = Checkout::of(&fixture);
    let before = checkout.output();
    assert!(before.len() > 800, "{} files of lock, tree and values", before.len());
    // what peers may read is shown in the cluster's own network, which the api-proxy is told since, and so is what is shared
    let shares =
        ["\"kube-system\"", ""].map(|except| format!(",\"share\":{{\"namespaces\":[\"*\"],\"except\":[{except}]}}"));
    // the default of what is shared closes namespaces in the whole mesh, which is told once and with the way to keep them
    let output = checkout.engine(&["plan", "--locked"]).done();
    assert_eq!(output.matches("`share` is new in this version").count(), 1, "{output}");
    assert_eq!(output.matches("share: * → * except kube-system").count(), 1, "{output}");
    assert_eq!(output.matches("state `share: {except: []}`").count(), 1, "{output}");
    checkout.engine(&["apply", "--locked"]).done();
    let after = checkout.output();
    let is_admission = |path: &&std::path::PathBuf| path.display().to_string().contains("validatingadmissionpolic");
    let kept = after.keys().filter(|path| !is_admission(path));
    assert!(before.keys().eq(kept), "apply --locked wrote or deleted a file");
    assert_eq!(after.keys().filter(is_admission).count(), 32, "a policy and its binding for each cluster of ours");
    let mut networks = 0;
    for (path, old) in &before {
        let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(&after[path]));
        if old == new {
            continue;
        }
        // and the exporter may read what the cluster's CA revoked, and peers no gateways
        let new = new.replace(&shares[0], "").replace(&shares[1], "").replace("  - istio-ca-crl\n", "");
        let new = new.replace(METRICS, "    - namespaceSelector: {}\n").replace(EXPORTER, "");
        let hardened = |line: &&str| {
            !HARDENED.iter().any(|text| line.starts_with(text) || line.contains("- valid") && line.contains(text))
        };
        let new: String = new.lines().filter(hardened).flat_map(|line| [line, "\n"]).collect();
        let old = old.replace(GATEWAYS, "");
        // rights are bound to the users of peers, where a group had them
        if let (Some((old, _)), Some((new, subjects))) = (old.split_once("subjects:"), new.split_once("subjects:"))
            && path.display().to_string().ends_with("clusterrolebinding.rbac.authorization.k8s.io-isthmus-peers.yaml")
        {
            assert!(old == new && subjects.contains("kind: User") && !subjects.contains("kind: Group"), "{subjects}");
            continue;
        }
        // and the relay is told whose routes it reads
        let is_own = |line: &&str| !line.trim_start().starts_with("\"clusterUUID\":");
        let new: String = new.split_inclusive('\n').filter(is_own).collect();
        // and whose metadata it reads with the key of its cluster
        let new = match new.split_once("    \"metadata\":[\n").map(|(head, rest)| (head, rest.split_once("    ],\n"))) {
            Some((head, Some((read, tail))))
                if read.lines().all(|line| line.trim_start().starts_with("{\"endpoint\":")) =>
            {
                format!("{head}{tail}")
            }
            _ => new,
        };
        // and in which network the WorkloadEntries of a peer are
        let new = if path.ends_with("configmap-isthmus-routes.yaml") {
            let route = |line: &str| {
                let network = line.split_once(",\"network\":\"network-");
                let parts = network.and_then(|(head, rest)| Some((head, rest.split_once('"')?.1)));
                parts.map_or(format!("{line}\n"), |(head, tail)| format!("{head}{tail}\n"))
            };
            new.lines().map(route).collect()
        } else {
            new
        };
        // and peers of other teams that their links leave
        let leaving = |text: &str| {
            let parts =
                text.split_once(",\"leaving\":{").and_then(|(head, rest)| Some((head, rest.split_once('}')?.1)));
            parts.map_or(text.to_owned(), |(head, tail)| format!("{head}{tail}"))
        };
        let new: String = new.split_inclusive('\n').map(leaving).collect();
        // and a Deckhouse by which CA the api-proxy of its peer is known
        let new = match new.split_once("  metadata:\n    ca: |\n") {
            Some((head, rest)) if path.display().to_string().contains("istiomulticluster.deckhouse.io-") => {
                let tail = rest.split_once("-----END CERTIFICATE-----\n").map_or(rest, |(_, tail)| tail);
                format!("{head}{tail}")
            }
            _ => new,
        };
        // and the exporter reads what an agent says of a hand-over
        let new = if path.ends_with("role.rbac.authorization.k8s.io-isthmus-exporter.yaml") {
            new.split_inclusive('\n').filter(|line| line.trim() != "- isthmus-hand-over").collect()
        } else {
            new
        };
        let kept: Vec<&str> = new.lines().filter(|line| !line.contains("\"network\":\"network-")).collect();
        let added = new.lines().count() - kept.len();
        networks += added;
        assert!(added <= 1 && old.lines().eq(kept), "{} has changed", path.display());
    }
    assert_eq!(networks, 15, "one for each cluster that has peers of ours");
    let plan = checkout.engine(&["plan", "--locked", "--detailed-exitcode"]);
    assert_eq!((plan.code, plan.stdout.contains("\nNo changes.")), (0, true), "{plan}");
}

/// Version 0.1.0 takes a file's version from the first line that begins with `version:` and, where that is above 1, ends with
/// exit code 1 before it reads anything else of the checkout's state or writes. So each file of the lock has such a line.
#[test]
fn the_lock_is_refused_by_0_1_0_whichever_of_its_files_that_reads() {
    let checkout = Checkout::new();
    checkout.engine(&["apply", "--create-keys"]).done();
    let lock: Vec<_> =
        checkout.output().into_iter().filter(|(path, _)| path.to_string_lossy().contains("/lock/")).collect();
    assert_eq!(lock.len(), 5, "clusters, links and the mesh");
    for (path, bytes) in lock {
        let text = String::from_utf8(bytes).unwrap();
        let version = text.lines().find_map(|line| line.strip_prefix("version:"));
        let version: u32 = version.unwrap_or_else(|| panic!("{}", path.display())).trim().parse().unwrap();
        assert!(version > 1 && text.starts_with("version:"), "{}:\n{text}", path.display());
    }
}
