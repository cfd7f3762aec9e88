//! A network on whose other side a server is: what one side writes, the other reads so much later.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The address at which the server is reached from so far.
pub(crate) async fn far_from(server: String, each_way: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let there = TcpStream::connect(&server).await.unwrap();
            here.set_nodelay(true).unwrap();
            there.set_nodelay(true).unwrap();
            let (questions, client) = here.into_split();
            let (answers, origin) = there.into_split();
            tokio::spawn(carry(questions, origin, each_way));
            tokio::spawn(carry(answers, client, each_way));
        }
    });
    address
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin + Send + 'static, takes: Duration) {
    let (under_way, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || under_way.send((Instant::now() + takes, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}
