//! The PROXY protocol, versions 1 and 2 (haproxy `doc/proxy-protocol.txt`): whose connection a load balancer passes on.
//!
//! It is read from sources that are trusted, in front of TLS, and has to be there: whoever may leave it out could speak for any
//! client by writing it later. From all others nothing is read, and a header is no beginning of TLS. Nothing after the header is
//! taken from the connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The shortest header of version 1, `PROXY UNKNOWN` and a line break, which is shorter than the shortest of version 2.
const SHORTEST: usize = 15;
/// The longest header of version 1, with its line break.
const LONGEST_LINE: usize = 107;
/// Most bytes of version 2 after its first 16: addresses, and what clouds add to them.
const LONGEST_REST: usize = 520;

/// Why a connection does not say whose it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error("cannot read the PROXY header: {0}")]
    Read(#[from] io::Error),
    #[error("expected a PROXY header from a trusted source, found something else")]
    Missing,
    #[error("the PROXY header is longer than any that is read")]
    TooLong,
    #[error("the PROXY header cannot be read")]
    Malformed,
}

/// Reads a header. `None`: the load balancer's own connection, such as a health check.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut begin = [0; SHORTEST];
    stream.read_exact(&mut begin).await?;
    if begin.starts_with(&SIGNATURE) {
        let [.., command, family, high] = begin;
        let rest = usize::from(u16::from_be_bytes([high, stream.read_u8().await?]));
        if rest > LONGEST_REST {
            return Err(ProxyHeaderError::TooLong);
        }
        let mut text = vec![0; rest];
        stream.read_exact(&mut text).await?;
        return version_2(command, family, &text);
    }
    if !begin.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Missing);
    }
    let mut line = begin.to_vec();
    // byte by byte, since what follows belongs to TLS
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(ProxyHeaderError::TooLong);
        }
        line.push(stream.read_u8().await?);
    }
    version_1(&line)
}

/// `PROXY TCP4 198.51.100.7 203.0.113.1 40000 443`. `None`: not known.
fn version_1(line: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n"));
    let line = line.filter(|line| !line.contains(['\r', '\n'])).ok_or(ProxyHeaderError::Malformed)?;
    let parts: Vec<&str> = line.split(' ').collect();
    let port = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let family: fn(IpAddr) -> bool = match parts.get(1).copied() {
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => |address| address.is_ipv4(),
        Some("TCP6") => |address| address.is_ipv6(),
        _ => return Err(ProxyHeaderError::Malformed),
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().filter(|address| family(*address));
    let source = match parts[..] {
        ["PROXY", _, source, destination, source_port, destination_port] => {
            let is_whole = address(destination).is_some() && port(destination_port).is_some();
            address(source).zip(port(source_port)).filter(|_| is_whole)
        }
        _ => None,
    };
    let (address, port) = source.ok_or(ProxyHeaderError::Malformed)?;
    Ok(Some(SocketAddr::new(address.to_canonical(), port)))
}

fn version_2(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    /// Version 2 in the high four bits.
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const UNSPECIFIED: u8 = 0x00;
    const TCP_4: u8 = 0x11;
    const TCP_6: u8 = 0x21;
    let short = || ProxyHeaderError::Malformed;
    match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => Ok(None),
        (PROXY, TCP_4) => {
            let addresses: &[u8; 12] = rest.first_chunk().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            Ok(Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))))
        }
        (PROXY, TCP_6) => {
            let addresses: &[u8; 36] = rest.first_chunk().ok_or_else(short)?;
            let source: &[u8; 16] = addresses.first_chunk().ok_or_else(short)?;
            let [.., high, low, _, _] = *addresses;
            let source = IpAddr::V6(Ipv6Addr::from(*source)).to_canonical();
            Ok(Some(SocketAddr::new(source, u16::from_be_bytes([high, low]))))
        }
        _ => Err(ProxyHeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> Result<(Option<SocketAddr>, Vec<u8>), ProxyHeaderError> {
        let mut stream = bytes;
        let source = read(&mut stream).await?;
        Ok((source, stream.to_vec()))
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const FOUR: [u8; 12] = [198, 51, 100, 7, 203, 0, 113, 1, 0x9c, 0x40, 1, 187];

    fn six() -> Vec<u8> {
        let [source, destination] = ["2001:db8::7", "2001:db8::1"].map(|a| a.parse::<Ipv6Addr>().unwrap().octets());
        [&source[..], &destination, &[0x9c, 0x40, 1, 187]].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_the_rest_of_the_connection() {
        let tlv = [&FOUR[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 443\r\n".to_vec(), Some("198.51.100.7:40000")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n".to_vec(), Some("[2001:db8::7]:40000")),
            (b"PROXY TCP6 ::ffff:198.51.100.7 ::1 1 443\r\n".to_vec(), Some("198.51.100.7:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &FOUR), Some("198.51.100.7:40000")),
            (v2(0x21, 0x11, &tlv), Some("198.51.100.7:40000")),
            (v2(0x21, 0x21, &six()), Some("[2001:db8::7]:40000")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &FOUR), None),
            (v2(0x21, 0x00, &[0; 7]), None),
        ] {
            let found = read_all(&[&header[..], b"\x16\x03\x01 TLS"].concat()).await.unwrap();
            assert_eq!(found, (expected.map(|text| text.parse().unwrap()), b"\x16\x03\x01 TLS".to_vec()));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = format!("PROXY TCP4 {} 203.0.113.1 1 443\r\n", "1".repeat(100));
        for bad in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 40000\r\n",
            b"PROXY TCP4  198.51.100.7 203.0.113.1 40000 443\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 040 443\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 65536 443\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 +1 443\r\n",
            b"PROXY TCP4 2001:db8::7 203.0.113.1 1 443\r\n",
            b"PROXY TCP6 198.51.100.7 203.0.113.1 1 443\r\n",
            b"PROXY UDP4 198.51.100.7 203.0.113.1 1 443\r\n",
            b"PROXY TCP4 198.51.100.7 203.0.113.1 1 443 x\r\n",
            b"PROXY TCP4 198.51.100.7\n203.0.113.1 1 443\r\n",
            b"PROXY TCP4 \xff\xff\xff\xff 203.0.113.1 1 443\r\n",
            b"PROXY ",
            long.as_bytes(),
            &v2(0x21, 0x11, &FOUR[..11]),
            &v2(0x21, 0x21, &six()[..35]),
            &v2(0x21, 0x12, &FOUR),
            &v2(0x22, 0x11, &FOUR),
            &v2(0x11, 0x11, &FOUR),
            &v2(0x21, 0x11, &[0; LONGEST_REST + 1]),
            &v2(0x21, 0x11, &FOUR)[..20],
        ] {
            assert!(read_all(bad).await.is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
