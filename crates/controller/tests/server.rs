//! The controller as a process: it starts whole or says in one sentence why not, and goes down in order.

mod common;

use common::agent::{Cluster, config, pki};
use controller::{Config, Server, ServerError};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tonic::Code;

async fn refusal(config: Config) -> String {
    match Server::start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &[]);
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap();
    let said = refusal(Config { api_listen: Some(taken), ..config(dir.path()) }).await;
    assert_eq!(said, format!("{taken} is taken by another process: stop it, or choose another `api_listen`"));
    let said = refusal(Config { agents_listen: taken, ..config(dir.path()) }).await;
    assert_eq!(
        said,
        format!("{taken} is taken by another process: stop it, or choose another `agents_listen`")
    );
}

#[tokio::test]
async fn a_store_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &[]);
    let data_dir = dir.path().join("data");
    let with_data = || Config { data_dir: Some(data_dir.clone()), ..config(dir.path()) };
    let first = Server::start(with_data()).await.unwrap();
    let said = refusal(with_data()).await;
    assert!(said.contains("store.redb is in use by another process"), "{said}");
    assert_eq!(data_dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    first.shutdown().await;
    Server::start(with_data()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn missing_and_broken_certificates_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let said = refusal(config(dir.path())).await;
    assert!(said.contains("ca.pem") && said.contains("nanboku ca init"), "{said}");
    pki(dir.path(), &[]);
    std::fs::write(dir.path().join("controller.pem"), "not a certificate").unwrap();
    assert!(matches!(Server::start(config(dir.path())).await, Err(ServerError::Tls { .. })));
}

async fn get(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_a_dead_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &[]);
    let path = dir.path().join("api.sock");
    // What a killed process leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let with_socket = || Config { api_listen: None, api_socket: Some(path.clone()), ..config(dir.path()) };
    let server = Server::start(with_socket()).await.unwrap();
    assert_eq!(server.api_address, None);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let answer = get(&path, "/v2.0/networks").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"networks":[]}"#), "{answer}");
    let said = refusal(with_socket()).await;
    assert!(said.contains("api.sock is taken by another process"), "{said}");
    assert!(get(&path, "/v2.0/networks").await.starts_with("HTTP/1.1 200"), "the first one goes on");
    server.shutdown().await;
    assert!(!path.exists());
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "certificates only: {left:?}");
}

#[tokio::test]
async fn going_down_ends_streams_with_a_word_and_without_waiting() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let started = Instant::now();
    let (end, ()) = tokio::join!(agent.end(), cluster.server.shutdown());
    assert_eq!(end.code(), Code::Unavailable);
    assert!(end.message().contains("going down"), "{}", end.message());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// A request over TCP, and the whole answer.
async fn get_tcp(address: std::net::SocketAddr, target: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn prometheus_sees_hosts_blocks_and_requests() {
    let cluster = Cluster::start().await;
    let _agent = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    get_tcp(cluster.server.api_address.unwrap(), "/v2.0/networks").await;
    let page = get_tcp(cluster.server.metrics_address.unwrap(), "/metrics").await;
    for want in [
        "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n",
        "nanboku_controller_hosts{state=\"connected\"} 1.0\n",
        "nanboku_controller_hosts_behind 1.0\n",
        "nanboku_controller_nat_ports{state=\"granted\"} 0.0\n",
        "nanboku_api_requests_total{method=\"GET\",route=\"/v2.0/networks\",status=\"200\"} 1\n",
        "# EOF\n",
    ] {
        assert!(page.contains(want), "'{want}' in\n{page}");
    }
}
