//! The only edge that touches the files of a checkout. It knows paths and bytes, and nothing of meshes.
//!
//! 1. `path`: which paths are taken at all, and how a folder is opened: name by name from the root, each with
//!    `O_NOFOLLOW`, so that no symbolic link leads outside, not even one that appears in between.
//! 2. `read`: a folder with everything below it, or one file, within limits.
//! 3. `mutex`: one engine at a time.
//! 4. `write`: many changes at once, each file whole or not at all.
//! 5. `stamp`: whether a folder may have changed.
//! 6. `private`: key files, which only their owner may read and no one replaces.
#![allow(clippy::disallowed_methods, reason = "this edge is where files are touched")]

mod error;
mod flags;
mod mutex;
mod opened;
mod path;
mod private;
mod read;
mod stamp;
mod write;

pub use crate::checkout::error::{CheckoutError, Left};
pub use crate::checkout::mutex::Guard;
pub use crate::checkout::opened::Checkout;
pub use crate::checkout::private::PrivateBytes;
pub use crate::checkout::read::{FoundFile, OpenFile, ReadLimits};
pub use crate::checkout::stamp::{FileStamp, Stamps};
pub use crate::checkout::write::{Committed, FileChange};
