//! A cluster in a process: a controller on free ports, certificates, and agents that are only streams.

use controller::config::{Protocol, Tunnel};
use controller::{Config, Server, ca};
use model::PortId;
use model::slice::{Delta, Slice};
use proto::agent_message::Message as ToController;
use proto::controller_client::ControllerClient;
use proto::controller_message::Message as FromController;
use proto::{AgentMessage, AnswerPart, ControllerMessage, Hello, Programmed};
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};

/// Longest wait for anything: far above what it takes, far below a test's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A controller and its certificate authority.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn config(pki: &Path) -> Config {
    Config {
        data_dir: None,
        api_listen: Some("127.0.0.1:0".parse().unwrap()),
        api_socket: None,
        auth: controller::config::Auth::None,
        api_tls: None,
        agents_listen: "127.0.0.1:0".parse().unwrap(),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        certificates: pki.to_owned(),
        certificate: "controller".into(),
        tunnel: Tunnel { protocol: Protocol::Geneve, port: 6081 },
        underlay_mtu: 1500,
        dvr_base_mac: "fa:16:3f:00:00:00".parse().unwrap(),
        liveness_grace: Duration::from_millis(300),
        nat: Default::default(),
        limits: Default::default(),
        quotas: Default::default(),
    }
}

/// An authority with certificates for the controller and the hosts.
pub(crate) fn pki(dir: &Path, hosts: &[&str]) {
    let now = OffsetDateTime::now_utc();
    ca::init(dir, now).unwrap();
    ca::issue(dir, "controller", &[], now).unwrap();
    for host in hosts {
        ca::issue(dir, host, &[], now).unwrap();
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki(dir.path(), &["ahv01", "ahv02", "ahv03"]);
        let mut config = config(dir.path());
        adjust(&mut config);
        let server = Server::start(config).await.unwrap();
        Self { server, dir }
    }

    /// A channel with the certificate of `name` from the authority in `pki`.
    pub(crate) async fn channel(
        &self,
        pki: &Path,
        name: Option<&str>,
    ) -> Result<Channel, tonic::transport::Error> {
        let read = |file: String| std::fs::read(pki.join(file)).unwrap();
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("ca.pem".into())))
            .domain_name(proto::CONTROLLER_NAME);
        if let Some(name) = name {
            tls = tls.identity(Identity::from_pem(read(format!("{name}.pem")), read(format!("{name}.key"))));
        }
        let address = format!("https://{}", self.server.agents_address);
        Endpoint::from_shared(address)?.tls_config(tls)?.connect().await
    }

    /// An agent of that host, connected and with its first slice.
    pub(crate) async fn agent(&self, host: &str, vtep: &str, physical_networks: &[&str]) -> Agent {
        let mut agent = self.stream(host, hello(host, vtep, physical_networks)).await.unwrap();
        agent.expect_welcome().await.unwrap();
        agent.update().await;
        agent
    }

    /// A stream opened with the certificate of `certificate` and that Hello.
    pub(crate) async fn stream(&self, certificate: &str, hello: Hello) -> Result<Agent, Status> {
        let channel = self.channel(self.dir.path(), Some(certificate)).await.unwrap();
        Agent::open(channel, hello).await
    }
}

pub(crate) fn hello(host: &str, vtep: &str, physical_networks: &[&str]) -> Hello {
    Hello {
        host_name: host.into(),
        vtep: vtep.into(),
        physical_networks: physical_networks.iter().map(|name| (*name).to_owned()).collect(),
        version: "0.1.0".into(),
        ipv6: true,
    }
}

/// An agent without a kernel: it applies what it gets and acks when told to.
pub(crate) struct Agent {
    outbound: mpsc::Sender<AgentMessage>,
    inbound: Streaming<ControllerMessage>,
    pub(crate) welcome: proto::Welcome,
    pub(crate) slice: Slice,
    pub(crate) deltas: Vec<Delta>,
    pub(crate) questions: Vec<proto::Question>,
    client: ControllerClient<Channel>,
    host: String,
}

impl Agent {
    pub(crate) async fn open(channel: Channel, hello: Hello) -> Result<Self, Status> {
        let (outbound, receiver) = mpsc::channel(16);
        let host = hello.host_name.clone();
        outbound.send(AgentMessage { message: Some(ToController::Hello(hello)) }).await.unwrap();
        let mut client = ControllerClient::new(channel);
        let inbound = client.connect(ReceiverStream::new(receiver)).await?.into_inner();
        let (welcome, slice) = Default::default();
        let (deltas, questions) = Default::default();
        Ok(Self { outbound, inbound, welcome, slice, deltas, questions, client, host })
    }

    pub(crate) async fn expect_welcome(&mut self) -> Result<(), Status> {
        match self.receive().await? {
            FromController::Welcome(welcome) => self.welcome = welcome,
            other => panic!("wanted Welcome, got {other:?}"),
        }
        Ok(())
    }

    /// How the stream ends. Messages before that are dropped.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.receive().await {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    }

    async fn receive(&mut self) -> Result<FromController, Status> {
        let message =
            timeout(PATIENCE, self.inbound.message()).await.expect("the controller says nothing")?;
        message.and_then(|message| message.message).ok_or_else(|| Status::ok("ended"))
    }

    /// Takes one message in.
    pub(crate) async fn update(&mut self) {
        match self.receive().await.unwrap() {
            FromController::Snapshot(snapshot) => {
                self.slice = serde_json::from_slice(&snapshot.slice).unwrap()
            }
            FromController::Delta(delta) => {
                let delta: Delta = serde_json::from_slice(&delta.delta).unwrap();
                self.slice.apply(delta.clone());
                self.deltas.push(delta);
            }
            FromController::Question(question) => self.questions.push(question),
            FromController::Welcome(_) => panic!("a second Welcome"),
        }
    }

    /// Takes messages in until the slice is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Slice) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(&self.slice) {
            let update = tokio::time::timeout_at(deadline, self.update()).await;
            assert!(update.is_ok(), "waited for {what}; the slice is {:#?}", self.slice);
        }
    }

    /// Nothing comes for a moment.
    pub(crate) async fn expect_silence(&mut self) {
        let silence = timeout(Duration::from_millis(100), self.update()).await;
        assert!(silence.is_err(), "unexpected: {:#?} {:#?}", self.deltas.last(), self.slice);
    }

    pub(crate) async fn say(&self, message: ToController) {
        self.outbound.send(AgentMessage { message: Some(message) }).await.unwrap();
    }

    /// Waits for the next question.
    pub(crate) async fn question(&mut self) -> proto::Question {
        while self.questions.is_empty() {
            self.update().await;
        }
        self.questions.remove(0)
    }

    /// Answers a question with these rows, in the name of `host` (none: its own).
    pub(crate) fn answer(
        &self,
        number: u64,
        host: Option<&str>,
        chunks: &[&str],
    ) -> impl Future<Output = Result<(), Status>> + Send + use<> {
        let host_name = host.unwrap_or(&self.host).to_owned();
        let first = AnswerPart { host_name, number, ..Default::default() };
        let rows =
            chunks.iter().map(|rows| AnswerPart { rows: rows.as_bytes().to_vec(), ..Default::default() });
        let parts: Vec<AnswerPart> = [first].into_iter().chain(rows).collect();
        let mut client = self.client.clone();
        async move {
            let answer = client.answer(tokio_stream::iter(parts));
            timeout(PATIENCE, answer).await.expect("the controller does not take the answer").map(drop)
        }
    }

    /// Everything received is in the tables, and these ports.
    pub(crate) async fn ack(&self, ports: &[PortId]) {
        let port_ids = ports.iter().map(ToString::to_string).collect();
        self.say(ToController::Programmed(Programmed { revision: self.slice.revision, port_ids })).await;
    }

    pub(crate) async fn links(&self, links: &[&str]) {
        let link_port_ids = links.iter().map(|link| (*link).to_owned()).collect();
        self.say(ToController::Status(proto::Status { link_port_ids, ..Default::default() })).await;
    }
}

/// Waits until the store is as wanted.
pub(crate) async fn until(store: &store::Store, what: &str, wanted: impl Fn(&store::Snapshot) -> bool) {
    let mut revisions = store.watch();
    let reached = async {
        while !wanted(&store.snapshot()) {
            revisions.changed().await.unwrap();
        }
    };
    assert!(
        timeout(PATIENCE, reached).await.is_ok(),
        "waited for {what}; the store is {:#?}",
        store.snapshot()
    );
}
