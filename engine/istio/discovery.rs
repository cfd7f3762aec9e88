//! istiod's debug pages over its secure port: a stream of Envoy's aggregated discovery service (`envoy/service/discovery/v3`,
//! gRPC) on which istiod answers requests of type `istio.io/debug` (`pilot/pkg/xds/debuggen.go`). Pure.
//!
//! istiod answers the requests of a stream one after the other, so pages come in the order in which they were asked for.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::istio::debug::DebugPage;

/// Path of the stream.
pub const STREAM: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DEBUG: &str = "istio.io/debug";
/// A version of Istio; nothing of what is asked for depends on it.
const VERSION: &str = "1.26.0";
/// A message's length, and whether it is compressed.
const HEAD: usize = 5;

/// The request for a page, as a message of gRPC. `node` names who asks as a proxy names itself: `sidecar~<address>~<name>.<namespace>~<domain>`.
pub fn request(page: DebugPage, node: &str) -> Bytes {
    let mut of_node = BytesMut::new();
    put(&mut of_node, 1, node.as_bytes());
    put(&mut of_node, 3, &metadata());
    let mut request = BytesMut::new();
    put(&mut request, 2, &of_node);
    put(&mut request, 3, page.name().as_bytes());
    put(&mut request, 4, DEBUG.as_bytes());
    let mut message = BytesMut::with_capacity(HEAD + request.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(request.len()).unwrap_or(u32::MAX));
    message.put(request);
    message.freeze()
}

/// Metadata of a node: the version of a proxy, without which istiod writes a warning for each stream.
fn metadata() -> BytesMut {
    let (mut version, mut field, mut metadata) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    // a `Value` that is a string, in a field of a `Struct`
    put(&mut version, 3, VERSION.as_bytes());
    put(&mut field, 1, b"ISTIO_VERSION");
    put(&mut field, 2, &version);
    put(&mut metadata, 1, &field);
    metadata
}

/// Writes a field of bytes.
fn put(message: &mut BytesMut, field: u8, value: &[u8]) {
    message.put_u8(field << 3 | 2);
    let mut length = value.len();
    while length > 0x7f {
        message.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.put_u8(u8::try_from(length).unwrap_or_default());
    message.put(value);
}

/// A stream that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    #[error("its message is compressed, which was not asked for")]
    Compressed,
    #[error("its message is longer than is read")]
    TooLong,
    #[error("its message is no DiscoveryResponse with a page of {DEBUG}")]
    NoPage,
}

/// The messages of a stream, as its chunks come.
#[derive(Debug)]
pub struct Messages {
    buffer: BytesMut,
    /// Most bytes of one.
    most: usize,
}

impl Messages {
    /// None yet.
    pub fn new(most: usize) -> Self {
        Self { buffer: BytesMut::new(), most }
    }

    /// Takes a chunk of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next message that is whole.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, DiscoveryError> {
        let Some((head, rest)) = self.buffer.split_at_checked(HEAD) else { return Ok(None) };
        let mut head = head;
        if head.get_u8() != 0 {
            return Err(DiscoveryError::Compressed);
        }
        let length = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(DiscoveryError::TooLong);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The page in a response, as istiod would have it on its debug port.
pub fn page(response: &[u8]) -> Result<Bytes, DiscoveryError> {
    let page = || {
        // `resources`, of which a page is one
        let resource = field(response, 2)?;
        (field(resource, 1)? == DEBUG.as_bytes()).then(|| field(resource, 2).unwrap_or_default())
    };
    page().map(Bytes::copy_from_slice).ok_or(DiscoveryError::NoPage)
}

/// The first field of bytes with a number; `None` where there is none, or before it something is no field.
fn field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(value)?;
        if key == wanted << 3 | 2 {
            return Some(value);
        }
        message = rest;
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A response as istiod writes it: version, the page, type and nonce.
    fn response(page: &[u8]) -> Vec<u8> {
        let mut resource = BytesMut::new();
        put(&mut resource, 1, DEBUG.as_bytes());
        put(&mut resource, 2, page);
        let mut response = BytesMut::new();
        put(&mut response, 1, b"2026-11-30T00:00:00Z/1");
        put(&mut response, 2, &resource);
        response.put_slice(&[3 << 3, 1]);
        put(&mut response, 4, DEBUG.as_bytes());
        put(&mut response, 5, b"nonce");
        response.to_vec()
    }

    fn message(content: &[u8]) -> Vec<u8> {
        let mut message = vec![0];
        message.put_u32(u32::try_from(content.len()).unwrap());
        message.extend_from_slice(content);
        message
    }

    #[test]
    fn a_request_has_the_bytes_that_protobuf_gives_it() {
        let node = "sidecar~0.0.0.0~isthmus.istio-system~x";
        let sent = request(DebugPage::Clusterz, node);
        let expected = [
            &[0, 0, 0, 0, 97, 2 << 3 | 2, 69, 1 << 3 | 2, 38][..],
            node.as_bytes(),
            &[3 << 3 | 2, 27, 1 << 3 | 2, 25, 1 << 3 | 2, 13],
            b"ISTIO_VERSION",
            &[2 << 3 | 2, 8, 3 << 3 | 2, 6],
            b"1.26.0",
            &[3 << 3 | 2, 8],
            b"clusterz",
            &[4 << 3 | 2, 14],
            b"istio.io/debug",
        ];
        assert_eq!(sent, expected.concat());
    }

    #[test]
    fn a_stream_that_is_not_understood_says_why() {
        let mut messages = Messages::new(100);
        messages.push(&[1, 0, 0, 0, 0]);
        assert_eq!(messages.next_message(), Err(DiscoveryError::Compressed));
        let mut messages = Messages::new(100);
        messages.push(&[0, 0, 0, 0, 101]);
        assert_eq!(messages.next_message(), Err(DiscoveryError::TooLong));
        let mut other = BytesMut::new();
        put(&mut other, 2, &response(b"a cluster"));
        for bad in
            [&b""[..], b"\xff", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", &other[..], &response(b"page")[..30]]
        {
            assert_eq!(page(bad), Err(DiscoveryError::NoPage), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn pages_come_out_however_the_stream_is_cut(
            pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
            cut in 1_usize..50,
        ) {
            let stream: Vec<u8> = pages.iter().flat_map(|page| message(&response(page))).collect();
            let (mut messages, mut found) = (Messages::new(1000), Vec::new());
            for chunk in stream.chunks(cut) {
                messages.push(chunk);
                while let Some(response) = messages.next_message().unwrap() {
                    found.push(page(&response).unwrap().to_vec());
                }
            }
            prop_assert_eq!(found, pages);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(page(&bytes));
            let mut messages = Messages::new(150);
            messages.push(&bytes);
            while let Ok(Some(_)) = messages.next_message() {}
        }
    }
}
