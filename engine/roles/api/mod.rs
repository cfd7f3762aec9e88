//! What a peer may ask of an apiserver, and what is answered in its place; for the api-proxy and the relay.

pub mod headers;
pub mod projection;
pub mod request;
pub mod status;
pub mod synthetic;
pub mod table;
