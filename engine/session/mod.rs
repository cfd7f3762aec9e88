//! One run on one checkout: what was read, with which keys, what is compared, how it ends.
#![allow(
    clippy::disallowed_methods,
    reason = "this edge reads the clock and the environment and hands them inwards as values"
)]

pub mod base;
pub mod clock;
pub mod command_error;
pub mod error;
pub mod exit;
pub mod facts;
pub mod fingerprints;
pub mod keys;
pub mod outcome;
pub mod planned;
#[expect(clippy::module_inception, reason = "the file is named by what it defines")]
pub mod session;
pub mod stored_plan;
