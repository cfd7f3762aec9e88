//! What walks share with other tests.

#[path = "../support/merge_patch.rs"]
pub(crate) mod merge_patch;
#[path = "../support/naive.rs"]
#[allow(dead_code, reason = "walks need less of it than the other tests")]
pub(crate) mod naive;
#[path = "../support/road.rs"]
#[allow(dead_code, reason = "walks need less of it than the other tests")]
pub(crate) mod road;
