//! What an earlier version wrote is planned by this one: no change but those that are meant.

use std::path::Path;

use crate::support::checkout::Checkout;

/// Reads, and never writes, the checkout that version 0.1.0 left.
#[test]
fn the_checkout_of_0_1_0_is_what_its_specs_ask_for() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/upgrade/0.1.0");
    let checkout = Checkout::of(&fixture);
    let before = checkout.output();
    assert!(before.len() > 800, "{} files of lock, tree and values", before.len());
    let plan = checkout.engine(&["plan", "--locked", "--detailed-exitcode"]);
    assert_eq!((plan.code, plan.stdout.contains("\nNo changes.")), (0, true), "{plan}");
    checkout.engine(&["apply", "--locked"]).done();
    assert!(before == checkout.output(), "apply --locked changed a file");
}
