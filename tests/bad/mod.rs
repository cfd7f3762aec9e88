//! What is bad, and what is said of it: specs, checkouts, servers and disks.

mod checkout;
mod runs;
pub(crate) mod specs;
