//! Kubernetes' protobuf, read into the JSON that an apiserver would have given in its place.
//!
//! An apiserver takes half of the time to write a list in protobuf that it takes to write it in JSON. What comes is no more than
//! another spelling: it is written as JSON while it comes, with the fields alone that the [projection](super) may show, and the
//! projection then decides what of that a peer is given. Fields that are not in the [tables](table) are skipped without being read.
//!
//! What is written is what Go would write of it: it leaves out what is empty (`omitempty`) where the type in Go has that, and bytes
//! that are no UTF-8 are each replaced by U+FFFD, so that no object that can be listed in JSON ends a list in protobuf. Of a number or
//! a text that is there twice the last counts, as in Go; of an object that is there twice, which Go would merge and no apiserver
//! writes, nothing is taken, and the answer ends. So it does where a length or a number is impossible, a field of the tables has another
//! wire type, or there are groups. At most one object is held, of at most
//! [`MAX_OBJECT`](super::MAX_OBJECT) bytes, and none becomes longer than that.

mod envelope;
mod list;
mod message;
mod status;
mod table;
mod wire;

pub use list::ProtobufList;
pub(in crate::roles) use status::status;
pub use table::{KINDS_IN_PROTOBUF, Presence, ProtobufField, ProtobufKind, ProtobufType};
