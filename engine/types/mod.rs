//! Values that every layer uses: one type for each kind of name, key, address and object. They know nothing of ours.

pub mod address;
pub mod cause;
pub mod certificate;
pub mod diagnostic;
pub mod duration;
pub mod encoding;
pub mod explanation;
pub mod json;
pub mod key;
pub mod name;
pub mod object;
pub(crate) mod recent;
pub mod step;
pub(crate) mod tally;
pub mod text;
pub mod time;
pub mod tls_verdict;
pub mod token;
pub mod yaml;
