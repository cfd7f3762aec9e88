//! What ends a command: its arguments, files, plans, bundles, kubeconfigs and roles.

use isthmus::types::explanation::Code;

use super::Scenario;
use crate::support::checkout::Checkout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "arguments that cannot be followed",
        codes: &[Code::InvalidArguments, Code::NotAvailable, Code::UnknownCluster, Code::NotForCluster],
        run: |_| {
            let checkout = Checkout::joined();
            let table: [(&[&str], Code); 15] = [
                (&["plna"], Code::InvalidArguments),
                (&["keys", "nwe"], Code::InvalidArguments),
                (&["plan", "--lockd"], Code::InvalidArguments),
                (&["watch", "--poll", "soon"], Code::InvalidArguments),
                (&["import"], Code::InvalidArguments),
                (&["keys"], Code::InvalidArguments),
                (&["apply", "--accept-trust", "all"], Code::InvalidArguments),
                (&["apply", "--accept-trust", "west@xyz"], Code::InvalidArguments),
                (&["watch", "--cluster", "west"], Code::InvalidArguments),
                (&["manifests", "flux", "--repo", "x"], Code::InvalidArguments),
                (&["report", "--html", "-"], Code::InvalidArguments),
                (&["invite", "west", "--for", "deckhouse", "--as", "cluster"], Code::InvalidArguments),
                (&["plan", "--to", "cluster"], Code::NotAvailable),
                (&["plan", "--cluster", "wset"], Code::UnknownCluster),
                (&["invite", "west"], Code::NotForCluster),
            ];
            table.map(|(arguments, code)| fails(&checkout, arguments, code)).into()
        },
    },
    Scenario {
        name: "files that are in the way, are not there, or are none",
        codes: &[
            Code::CheckoutAbsent,
            Code::AnotherEngineWorks,
            Code::PathRefused,
            Code::WrongEncoding,
            Code::LimitExceeded,
            Code::AlreadyExists,
            Code::SystemFailed,
        ],
        run: |_| {
            use std::os::unix::ffi::OsStrExt as _;
            let checkout = Checkout::joined();
            let absent = checkout.environment.run_on(&checkout.path("nowhere"), JSON_PLAN);
            let folder = std::fs::File::open(checkout.path("")).unwrap();
            folder.lock().unwrap();
            let busy = fails(&checkout, &["apply"], Code::AnotherEngineWorks);
            drop(folder);
            let exists = fails(&checkout, &["init"], Code::AlreadyExists);
            let file = fails(&checkout, &["apply", "no-such-plan"], Code::SystemFailed);
            let odd = checkout.path("specs").join(std::ffi::OsStr::from_bytes(b"\xff.yaml"));
            std::fs::write(&odd, b"").unwrap();
            let name = fails(&checkout, &["plan"], Code::WrongEncoding);
            std::fs::remove_file(odd).unwrap();
            std::fs::create_dir_all(checkout.path(&format!("specs/{}", "a/".repeat(100)))).unwrap();
            let deep = fails(&checkout, &["plan"], Code::LimitExceeded);
            std::fs::remove_dir_all(checkout.path("specs/a")).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", checkout.path("specs/link.yaml")).unwrap();
            let link = fails(&checkout, &["plan"], Code::PathRefused);
            vec![absent, busy, exists, file, name, deep, link]
        },
    },
    Scenario {
        name: "stored plans that cannot be carried out",
        codes: &[Code::PlanMalformed, Code::PlanStale],
        run: |_| {
            let checkout = Checkout::joined();
            let path = checkout.environment.path("plan.json");
            let plan = path.to_str().unwrap();
            checkout.engine(&["plan", "--out", plan]).done();
            checkout.edit("specs/mesh.yaml", "name: shop", "name:  shop");
            let stale = fails(&checkout, &["apply", plan], Code::PlanStale);
            std::fs::write(&path, "{}").unwrap();
            vec![stale, fails(&checkout, &["apply", plan], Code::PlanMalformed)]
        },
    },
    Scenario {
        name: "bundles that are broken, or that nobody knows the signer of",
        codes: &[Code::BundleRefused, Code::BundleSignerNotKnown],
        run: |_| {
            let checkout = Checkout::new();
            checkout.engine(&["apply", "--create-keys"]).done();
            let path = checkout.environment.path("west.bundle");
            let bundle = path.to_str().unwrap();
            checkout.engine(&["export", "west", "--out", bundle]).done();
            let unknown = fails(&checkout, &["import", bundle], Code::BundleSignerNotKnown);
            std::fs::write(&path, "{").unwrap();
            vec![unknown, fails(&checkout, &["import", bundle], Code::BundleRefused)]
        },
    },
    Scenario {
        name: "a kubeconfig that leads nowhere, and a role that does not start",
        codes: &[Code::KubeconfigUnusable, Code::RoleFailed],
        run: |_| {
            let checkout = Checkout::new();
            std::fs::remove_dir_all(checkout.path("specs")).unwrap();
            let deaf = serde_json::json!({
                "apiVersion": "v1", "kind": "Config",
                "clusters": [{ "name": "a", "cluster": { "server": "http://127.0.0.1:1" } }],
                "users": [{ "name": "a", "user": {} }],
                "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
            });
            checkout.write("kubeconfig", deaf.to_string().as_bytes());
            let path = checkout.path("kubeconfig");
            vec![
                checkout.engine(&["init", "--kubeconfig", path.to_str().unwrap(), "--output", "json"]),
                fails(&checkout, &["init", "--kubeconfig", "nowhere"], Code::KubeconfigUnusable),
                fails(&checkout, &["serve", "relay"], Code::RoleFailed),
            ]
        },
    },
];

const JSON_PLAN: &[&str] = &["plan", "--output", "json"];

/// A run that ends with a code.
#[track_caller]
pub(super) fn fails(checkout: &Checkout, arguments: &[&str], code: Code) -> crate::support::environment::Ran {
    let ran = checkout.engine(&[&["--output", "json"], arguments].concat());
    let document = ran.stdout.lines().next_back().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let document = document.unwrap_or_else(|| panic!("{arguments:?}: {ran}"));
    assert_eq!(document["code"], code.as_str(), "{arguments:?}: {ran}");
    ran
}
