//! Floods, in a short form: each against a proxy in a process of its own, while a good peer asks from the same address. The peer
//! is answered all the time, the flood ends, and the memory stays far below what the rendered container has.
//!
//! `ISTHMUS_FLOOD=SECONDS` lets each last longer.

use std::io::Read as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio_rustls::client::TlsStream;

use super::process::{Process, by_south, by_west, resident};
use super::*;

/// Times are short, so that a test sees their ends, but longer than a machine that builds something else keeps a test waiting; the
/// rest is as a proxy has it.
const LIMITS: &str = "header=4s,stall=3s,idle=12s,request=10s,list=12s,lame-duck=1ms,drain=1s";
/// 70 % of the memory limit of templates/proxy/deployment.yaml.
const MOST_MEMORY: usize = 256 * 1024 * 1024 / 10 * 7;
/// A list that is larger than every window.
const LONG: usize = 4 * 1024 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn how_long() -> Duration {
    Duration::from_secs(std::env::var("ISTHMUS_FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(2))
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that is no part of any table (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(u8::try_from(rest).unwrap());
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

/// The fields of a GET.
fn get(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![0x82, 0x87];
    fields.extend([(":path", path), (":authority", "x")].iter().flat_map(|(name, value)| field(name, value)));
    fields.extend(more.iter().flat_map(|(name, value)| field(name, value)));
    fields
}

/// One request in one frame.
fn request(stream: u32, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, fields)
}

/// Numbers that a client gives its streams.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

/// A connection whose client sends what it likes.
async fn open(process: &Process, settings: &[u8]) -> Option<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(process.ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(process.listening).await.ok()?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, settings)].concat();
    stream.write_all(&begin).await.ok()?;
    Some(stream)
}

/// Sends pieces one after the other, again and again where a connection is ended, and reads whatever comes; gives how many
/// connections were ended.
async fn flood(process: &Process, first: Vec<u8>, mut chunks: impl FnMut() -> Vec<u8>) -> usize {
    let until = Instant::now() + how_long();
    let mut ended = 0;
    while Instant::now() < until {
        let Some(mut stream) = open(process, &[]).await else {
            ended += 1;
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        if stream.write_all(&first).await.is_err() {
            ended += 1;
            continue;
        }
        let (mut reading, mut writing) = split(stream);
        let over = tokio::spawn(async move {
            let mut into = vec![0; 64 * 1024];
            while reading.read(&mut into).await.is_ok_and(|bytes| bytes > 0) {}
        });
        loop {
            if over.is_finished() || writing.write_all(&chunks()).await.is_err() {
                ended += 1;
                break;
            }
            if Instant::now() >= until {
                break;
            }
            tokio::task::yield_now().await;
        }
        over.abort();
    }
    ended
}

/// Waits until the other side ends a connection of whose answers nothing is read until then.
async fn is_ended(mut stream: TlsStream<TcpStream>) {
    let wait = Duration::from_mins(2);
    // the system's own buffers hold a part of what was sent
    sleep(Duration::from_secs(4)).await;
    let mut into = vec![0; 64 * 1024];
    let end = async { while stream.read(&mut into).await.is_ok_and(|bytes| bytes > 0) {} };
    timeout(wait, end).await.expect("a connection without an end");
}

async fn started() -> Process {
    started_with(|environment| environment.path("audit")).await
}

async fn started_with(
    audit: impl FnOnce(&crate::support::environment::TestEnvironment) -> std::path::PathBuf,
) -> Process {
    let pod = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"a": "b".repeat(900)}}}).to_string();
    let long = format!("{{\"items\":[{}]}}", vec![pod.as_str(); LONG / 1000].join(","));
    let script = move |asked: &Asked| {
        let json = [("content-type", "application/json")];
        if asked.path.starts_with("/api/v1/pods") && !asked.path.contains("watch=true") {
            return Some(list());
        }
        asked.path.starts_with("/api/v1/nodes").then(|| answer(200, &json, whole(long.clone())))
    };
    let event_sender = broadcast::channel(4).0;
    let apiserver = apiserver(&event_sender, script).await;
    Process::start(LIMITS, audit, &peers(&[west(&west_keys()), south()]), apiserver).await
}

/// Runs a flood while a good peer asks.
fn while_a_peer_asks<T>(process: &Process, flood: impl Future<Output = T>) -> impl Future<Output = T> {
    let flood = Box::pin(flood);
    async move {
        let by_south = by_south();
        let authorized = [("authorization", by_south.as_str())];
        // it has shown its token before the flood comes
        let client = Client::new(process.listening, &process.ca).await;
        assert_eq!(client.whole(Method::GET, PODS, &authorized).await.status(), StatusCode::OK);
        let peer = async {
            loop {
                assert_eq!(client.whole(Method::GET, PODS, &authorized).await.status(), StatusCode::OK);
                sleep(Duration::from_millis(20)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = flood => outcome,
            () = peer => unreachable!("a peer asks for ever"),
        };
        // and one that comes now; where this program is slow its connection may be taken for one that says nothing
        let newcomer = async {
            loop {
                let client = Client::connect(process.listening, &process.ca).await;
                let Some(client) = client else { continue };
                if let Some(answer) = client.try_send(Method::GET, PODS, &authorized).await {
                    return answer.status();
                }
            }
        };
        assert_eq!(timeout(Duration::from_mins(1), newcomer).await.unwrap(), StatusCode::OK);
        let memory = resident(&process.engine);
        assert!(memory <= MOST_MEMORY, "{} MiB", memory / 1024 / 1024);
        outcome
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_no_requests_end_their_connection() {
    let process = started().await;
    // one after the other
    let mut numbers = streams();
    let rapid_reset = move || {
        let pairs = numbers.by_ref().take(50);
        pairs
            .flat_map(|stream| [request(stream, &get(PODS, &[])), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
            .collect()
    };
    let ended = while_a_peer_asks(&process, flood(&process, Vec::new(), rapid_reset)).await;
    assert!(ended > 0, "rapid reset");

    let open_head = frame(HEADERS, END_STREAM, 1, &get(PODS, &[]));
    let ended = while_a_peer_asks(
        &process,
        flood(&process, open_head, || (0..50).flat_map(|_| frame(CONTINUATION, 0, 1, &field("x", "y"))).collect()),
    );
    assert!(ended.await > 0, "CONTINUATION");

    let with_body = frame(HEADERS, END_HEADERS, 1, &get(PODS, &[]));
    let ended = while_a_peer_asks(
        &process,
        flood(&process, with_body, || (0..500).flat_map(|_| frame(DATA, 0, 1, &[])).collect()),
    );
    assert!(ended.await > 0, "empty DATA");

    let ended = while_a_peer_asks(
        &process,
        flood(&process, Vec::new(), || (0..500).flat_map(|_| frame(PING, 0, 0, &[7; 8])).collect()),
    );
    assert!(ended.await > 0, "PING");

    let ended = while_a_peer_asks(
        &process,
        flood(&process, Vec::new(), || (0..500).flat_map(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])).collect()),
    );
    assert!(ended.await > 0, "SETTINGS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_does_not_wait_for_ever() {
    let process = started().await;
    while_a_peer_asks(&process, async {
        // answers that may not be sent: SETTINGS_INITIAL_WINDOW_SIZE is 0
        let mut window = open(&process, &[0, 4, 0, 0, 0, 0]).await.unwrap();
        let requests: Vec<u8> = streams().take(5).flat_map(|stream| request(stream, &get(PODS, &[]))).collect();
        window.write_all(&requests).await.unwrap();
        // the same of a peer
        let by_west = by_west();
        let authorized = get("/api/v1/nodes", &[("authorization", &by_west)]);
        let mut of_peer = open(&process, &[0, 4, 0, 0, 0, 0]).await.unwrap();
        let requests: Vec<u8> = streams().take(5).flat_map(|stream| request(stream, &authorized)).collect();
        of_peer.write_all(&requests).await.unwrap();
        // heads that never end, at once and beside a request that is answered
        let mut head = open(&process, &[]).await.unwrap();
        head.write_all(&frame(HEADERS, 0, 1, &get(PODS, &[]))).await.unwrap();
        let mut beside = open(&process, &[0, 4, 0, 0, 0, 0]).await.unwrap();
        let half = frame(HEADERS, 0, 3, &get(PODS, &[]));
        beside.write_all(&[request(1, &get(PODS, &[])), half[..half.len() - 1].to_vec()].concat()).await.unwrap();
        // nothing at all
        let silent = open(&process, &[]).await.unwrap();
        join_all([window, of_peer, head, beside, silent].map(is_ended)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cost_what_was_computed_for_them() {
    let process = started().await;
    let before = resident(&process.engine);
    let large = get(PODS, &[("x", &"y".repeat(7000)), ("authorization", "Bearer x")]);
    let requests: Vec<u8> = streams().take(250).flat_map(|stream| request(stream, &large)).collect();
    let peak = while_a_peer_asks(&process, async {
        let mut peak = 0;
        let until = Instant::now() + how_long();
        loop {
            let open = join_all((0..100).map(|_| open(&process, &[0, 4, 0, 0, 0, 0]))).await;
            let sent = open.into_iter().flatten().map(async |mut stream| {
                let _cut_off = timeout(Duration::from_secs(5), stream.write_all(&requests)).await;
                stream
            });
            let open = join_all(sent).await;
            peak = peak.max(resident(&process.engine).saturating_sub(before));
            // the proxy ends them, and only then come others: connections that it is still about to drop would be counted as well
            join_all(open.into_iter().map(is_ended)).await;
            if Instant::now() >= until {
                return peak;
            }
        }
    })
    .await;
    assert!(peak / 100 <= 256 * 1024, "{} KiB for each of 100 connections", peak / 100 / 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_are_not_read_end_and_hold_up_no_other() {
    let process = started().await;
    let by_west = by_west();
    while_a_peer_asks(&process, async {
        let authorized = get("/api/v1/nodes", &[("authorization", &by_west)]);
        let requests: Vec<u8> = streams().take(90).flat_map(|stream| request(stream, &authorized)).collect();
        let mut unread = open(&process, &[]).await.unwrap();
        unread.write_all(&requests).await.unwrap();
        is_ended(unread).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_log_has_room_beside_strangers() {
    let fifo = |environment: &crate::support::environment::TestEnvironment| {
        let path = environment.path("audit");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // whoever opens it for writing waits for a reader
        let reader = path.clone();
        std::thread::spawn(move || {
            let mut reading = std::fs::File::open(reader).unwrap();
            let mut into = [0; 2048];
            while reading.read(&mut into).is_ok_and(|bytes| bytes > 0) {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        path
    };
    let process = started_with(fifo).await;
    while_a_peer_asks(&process, async {
        let until = Instant::now() + how_long();
        while Instant::now() < until {
            let client = Client::new(process.listening, &process.ca).await;
            for _ in 0..5 {
                let answer = client.try_send(Method::GET, PODS, &[]).await;
                assert!(answer.is_none_or(|answer| answer.status().is_client_error()));
            }
        }
    })
    .await;
}
