//! Renames one key in JSON on its way, in constant memory.
//!
//! The key stands in quotes with a colon after it. Inside a text, such as an annotation that holds JSON, its quotes are
//! escaped, so it is not found there.

use bytes::{Bytes, BytesMut};

use crate::server::stream::Change;

const KEY: &[u8] = b"\"topology.istio.io/network\":";
const HIDDEN: &[u8] = b"\"topology.isthmus.dev/network\":";

/// Renames the label by which istiod takes a Service for a gateway of its network.
#[derive(Debug, Default)]
pub struct HideNetwork {
    /// A beginning of the key at the end of what came so far.
    held: BytesMut,
}

impl Change for HideNetwork {
    fn push(&mut self, piece: Bytes) -> Bytes {
        let text = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        let mut out = BytesMut::new();
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = find(&text, at) {
            out.extend_from_slice(text.get(copied..found).unwrap_or_default());
            out.extend_from_slice(HIDDEN);
            at = found + KEY.len();
            copied = at;
        }
        let rest = text.slice(copied..);
        let keep = (1..KEY.len()).rev().find(|length| rest.ends_with(KEY.get(..*length).unwrap_or(KEY))).unwrap_or(0);
        self.held.extend_from_slice(rest.get(rest.len() - keep..).unwrap_or_default());
        let rest = rest.slice(..rest.len() - keep);
        if out.is_empty() {
            return rest;
        }
        out.extend_from_slice(&rest);
        out.freeze()
    }

    fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

/// Where the key begins, from `at` on.
fn find(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    while let Some(quote) = text.get(from..)?.iter().position(|byte| *byte == b'"') {
        let here = from + quote;
        if text.get(here..)?.starts_with(KEY) {
            return Some(here);
        }
        from = here + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hidden(pieces: &[&[u8]]) -> Vec<u8> {
        let mut hide = HideNetwork::default();
        let mut out: Vec<u8> = Vec::new();
        for piece in pieces {
            out.extend(hide.push(Bytes::copy_from_slice(piece)));
        }
        out.extend(hide.finish());
        out
    }

    proptest! {
        #[test]
        fn it_is_a_replacement_however_the_text_is_cut(
            parts in proptest::collection::vec(prop_oneof![
                Just("\"topology.istio.io/network\":".to_owned()),
                Just("\"topology.istio.io/net".to_owned()),
                Just("\\\"topology.istio.io/network\\\":".to_owned()),
                Just("\"".to_owned()),
                "[a-z\":{},]{0,8}",
            ], 0..12),
            cuts in proptest::collection::vec(0usize..400, 0..6),
        ) {
            let text = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            let naive = text.replace(std::str::from_utf8(KEY).unwrap(), std::str::from_utf8(HIDDEN).unwrap());
            prop_assert_eq!(String::from_utf8(hidden(&pieces)).unwrap(), naive);
        }
    }

    #[test]
    fn an_event_is_never_held_back() {
        let mut hide = HideNetwork::default();
        let event = b"{\"labels\":{\"topology.istio.io/network\":\"n\"}}\n";
        assert!(hide.push(Bytes::from_static(event)).ends_with(b"}}\n"));
    }
}
