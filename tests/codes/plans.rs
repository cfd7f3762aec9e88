//! Plans in files, and runs that wait for a commit.

use isthmus::types::explanation::Code;

use super::Scenario;
use super::documents::{PRIVATE, edit};
use crate::support::checkout::Checkout;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a stored plan that is not what it was, in each way",
        codes: &[Code::PlanTooOld, Code::PlanDiffers, Code::PlanStale, Code::InvalidArguments],
        run: |_| {
            let mut checkout = Checkout::new();
            let file = checkout.path("plan.json").to_str().unwrap().to_owned();
            checkout.engine(&["plan", "--out", &file]).done();
            let apply = ["apply", &file, "--output", "json"];
            let flags = checkout.engine(&[&apply[..], &["--allow-delete"]].concat());
            edit(&checkout, "west", PRIVATE, |document| document["ingressGateways"][0]["port"] = 15444.into());
            let differs = checkout.engine(&apply);
            checkout.edit("specs/mesh.yaml", "name: shop", "name: mall");
            let stale = checkout.engine(&apply);
            checkout.environment.set("ISTHMUS_TEST_NOW", "2026-12-03T12:00:00Z");
            vec![flags, differs, stale, checkout.engine(&apply)]
        },
    },
    Scenario {
        name: "specs that nobody committed",
        codes: &[Code::SpecsNotCommitted],
        run: |_| {
            let checkout = Checkout::new();
            checkout.git(&["init", "-q", "-b", "main"]);
            vec![checkout.engine(&["watch", "--once", "--commit", "--output", "json"])]
        },
    },
];
