//! Clients that are slow, greedy or broken keep their own connection busy and nobody else's.

use crate::common::agent::{Cluster, PATIENCE};
use controller::Limits;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// What is cut off in a test.
const SHORT: Duration = Duration::from_millis(300);

async fn with(limits: Limits) -> (Cluster, SocketAddr) {
    let cluster = Cluster::start_with(|config| config.limits = limits).await;
    let address = cluster.server.api_address.unwrap();
    (cluster, address)
}

fn short() -> Limits {
    Limits { head: SHORT, body: SHORT, unread: SHORT, ..Limits::default() }
}

/// Everything the server says to those bytes until it closes.
async fn said(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have seen enough before the last byte.
    let _ = stream.write_all(request).await;
    rest(stream).await
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset is an end too.
    let _ = end.unwrap_or_else(|_| panic!("still open after {:?}", String::from_utf8_lossy(&answer)));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Others are answered, and quickly.
async fn others_are_served(address: SocketAddr) {
    let begun = Instant::now();
    let answer = said(address, b"GET /v2.0/ports HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

fn head(more: &str) -> String {
    format!("POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}\r\n")
}

#[tokio::test]
async fn a_body_of_more_than_a_megabyte_is_refused_whether_its_length_is_told_or_not() {
    let (_cluster, address) = with(Limits::default()).await;
    let body = "x".repeat((1 << 20) + 1);
    let told = format!("{}{body}", head(&format!("Connection: close\r\nContent-Length: {}\r\n", body.len())));
    let chunked = head("Connection: close\r\nTransfer-Encoding: chunked\r\n");
    let chunked = format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for request in [told, chunked] {
        let answer = said(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("HTTPRequestEntityTooLarge"), "{answer}");
    }
}

#[tokio::test]
async fn heads_that_do_not_end_are_cut_off_and_hold_nobody() {
    let (_cluster, address) = with(short()).await;
    let mut slow = Vec::new();
    for part in ["", "GET", "GET /v2.0/ports HTTP/1.1\r\nHost: x\r\nX-One: 1"].iter().cycle().take(60) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    others_are_served(address).await;
    for stream in slow {
        let answer = rest(stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let (_cluster, address) = with(short()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let begun = Instant::now();
    let writer = tokio::spawn(async move {
        for byte in head("X-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").into_bytes().repeat(10) {
            if to.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, from.read_to_end(&mut answer)).await.expect("it is cut off");
    assert!(begun.elapsed() < 5 * SHORT, "{:?}", begun.elapsed());
    writer.abort();
}

#[tokio::test]
async fn bodies_that_do_not_come_are_told_so_and_hold_nobody() {
    let (_cluster, address) = with(short()).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{}{{\"network\"", head("Content-Length: 1000\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    others_are_served(address).await;
    for stream in slow {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("HTTPRequestTimeout"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let (_cluster, address) = with(Limits { connections_per_address: 2, head: PATIENCE, ..short() }).await;
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let (from, mut to) = stream.into_split();
        let requests = "GET /v2.0/extensions HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1 << 10);
        // Until nothing goes any more: then the answers wait.
        let writer = tokio::spawn(async move { while to.write_all(requests.as_bytes()).await.is_ok() {} });
        deaf.push((from, writer));
    }
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let request = b"GET /v2.0/ports HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = said(address, request).await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < deadline, "they keep their places; last seen: {answer:?}");
        tokio::time::sleep(SHORT / 10).await;
    }
    for (_, writer) in deaf {
        writer.abort();
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_silent_ones_end() {
    let (_cluster, address) = with(Limits { connections_per_address: 8, ..short() }).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /v2.0/ports HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        silent.push(stream);
    }
    assert_eq!(said(address, b"").await, "", "one too many");
    for stream in silent {
        rest(stream).await;
    }
    others_are_served(address).await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let (_cluster, address) = with(Limits::default()).await;
    let many = (0..200).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    let long = format!("X-Long: {}\r\n", "y".repeat(1 << 20));
    for more in [many, long] {
        let answer = said(address, format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    }
    others_are_served(address).await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_told_so() {
    // It waits for a body that does not come, and that may take its time.
    let (_cluster, address) = with(Limits { answer: SHORT, ..Limits::default() }).await;
    let answer = said(address, head("Content-Length: 9\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("HTTPServiceUnavailable"), "{answer}");
}
