//! What every answer is in: four bytes and `runtime.Unknown`, which names the kind of what it has (k8s.io/apimachinery
//! `pkg/runtime/generated.proto`, `pkg/runtime/serializer/protobuf`).

use super::wire::WireFields;
use crate::server::misread::Misread;

/// How each answer begins.
pub(super) const MAGIC: [u8; 4] = *b"k8s\0";

// fields of `Unknown`
pub(super) const TYPE_META: u32 = 1;
/// The object itself.
pub(super) const RAW: u32 = 2;
/// How the object is written, where that is another way; empty in every answer.
pub(super) const CONTENT_ENCODING: u32 = 3;
pub(super) const CONTENT_TYPE: u32 = 4;

// fields of `TypeMeta`
const API_VERSION: u32 = 1;
const KIND: u32 = 2;

/// Asserts that a `TypeMeta` is this one: the numbers of fields mean something else in another kind.
pub(super) fn is_of(type_meta: &[u8], api_version: &str, kind: &str) -> Result<(), Misread> {
    let fields = WireFields(type_meta);
    let found = (fields.last_bytes(API_VERSION)?, fields.last_bytes(KIND)?);
    if found == (Some(api_version.as_bytes()), Some(kind.as_bytes())) { Ok(()) } else { Err(Misread::Protobuf) }
}
