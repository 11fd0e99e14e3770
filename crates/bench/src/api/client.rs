//! A client of the API with as little of its own as can be: one connection that stays, one request at a time.

use anyhow::{Context as _, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes: what hangs is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a controller is, and how it is talked to.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) token: Option<String>,
}

/// TLS that trusts the authority in that file.
pub(crate) fn trusting(authority: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A connection.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Stream>>,
    token: String,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `X-Subject-Token`, of a log in.
    pub(crate) token: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The object in its envelope.
    pub(crate) fn object(&self, envelope: &str) -> anyhow::Result<Value> {
        let mut value: Value = serde_json::from_slice(&self.body)?;
        value.get_mut(envelope).map(Value::take).with_context(|| format!("an answer without {envelope}"))
    }
}

impl Client {
    pub(crate) fn connect(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect_timeout(&endpoint.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let stream: Box<dyn Stream> = match &endpoint.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from("controller")?;
                Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, tcp))
            }
        };
        let token = endpoint.token.as_ref().map(|token| format!("X-Auth-Token: {token}\r\n"));
        Ok(Self { stream: BufReader::new(stream), token: token.unwrap_or_default() })
    }

    /// One request and its answer, which must be a success.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: controller\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n",
            body.len(),
            self.token
        );
        let stream = self.stream.get_mut();
        stream.write_all(format!("{head}{body}").as_bytes())?;
        stream.flush()?;
        let answer = self.answer().with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer)
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("'{first}' is no answer"))?;
        let (mut length, mut token) = (0, None);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "x-subject-token" => token = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, token, body })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        Ok(line.trim_end().to_owned())
    }
}
