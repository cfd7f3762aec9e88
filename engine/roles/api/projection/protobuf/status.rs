//! Why an apiserver does not answer, which it writes in the form that it was asked for.

use super::envelope::{MAGIC, RAW, TYPE_META, is_of};
use super::message::write_fields;
use super::table::STATUS;
use super::wire::WireFields;
use crate::server::misread::Misread;

/// A `Status`, as JSON.
pub(in crate::roles) fn status(answer: &[u8]) -> Result<Vec<u8>, Misread> {
    let unknown = WireFields(answer.strip_prefix(&MAGIC).ok_or(Misread::Protobuf)?);
    is_of(unknown.message(TYPE_META)?.unwrap_or_default(), "v1", "Status")?;
    let raw = unknown.message(RAW)?.ok_or(Misread::Protobuf)?;
    let mut out = b"{\"kind\":\"Status\",\"apiVersion\":\"v1\"".to_vec();
    write_fields(raw, STATUS, &mut true, &mut out)?;
    out.push(b'}');
    Ok(out)
}
