//! Whether an exporter or an api-proxy, of whatever make, keeps to the wire protocol: each rule is tried from outside, as a peer
//! would, and no state of the server is changed by it.
//!
//! 1. [`tokens`] makes good and bad tokens, each with what a server has to say of it.
//! 2. [`exporter`] and [`proxy`] ask, one rule after the other; `watches` has those of watches, their bookmarks and their ends.
//! 3. [`report`] is the outcome, as text, JSON and XML for CIs.

pub mod exporter;
pub mod proxy;
pub mod report;
pub mod tokens;
mod watches;
