//! What a reviewer has to see before any object: what is refused, whom the mesh comes to trust, which links open and close,
//! and which edits decide over that. Built once as values; text, JSON and Markdown print the same.

mod discovery;
mod edits;
mod item;
mod link_change;
mod links;
mod names;
mod policy;
mod policy_rule;
mod run;
mod share_change;
mod shares;
mod spec_field;
mod specs;

pub use self::item::{Admittance, SecurityChange, SecurityItem};
pub use self::link_change::{LinkCause, LinkChange, LinkEffect};
pub use self::policy_rule::PolicyRule;
pub(crate) use self::run::of_run;
pub use self::share_change::ShareChange;
pub(crate) use self::shares::written_peers;
pub use self::spec_field::SpecField;
