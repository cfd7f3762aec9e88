//! What is true: the mesh that the specs declare, the lock of what was learned, and how both lie in a checkout.

pub mod keyring;
pub mod known;
pub mod layout;
pub mod link;
pub mod link_status;
pub mod lock;
pub mod mesh;
pub mod needs;
pub mod policy;
pub mod read_by;
pub mod trust;
