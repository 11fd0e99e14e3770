//! The control socket: what `nanboku port plug` and the local status ask of the agent on the same host.
//!
//! One request per connection: a line of JSON, answered by a line of JSON. The socket is mode 0600: whoever
//! may open it could reconfigure the host's network anyway. The server is in `control_server`.

use model::PortId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a request line, with its end.
pub const REQUEST_LEN_MAX: u64 = 4096;
/// Bytes of an answer line: a status with some thousand ports and problems.
const RESPONSE_LEN_MAX: u64 = 16 << 20;
/// Plugging waits for the controller to bind the port at most [`crate::plug::BIND_WAIT`]; this is longer.
const RESPONSE_WAIT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Makes a veth pair: `tap…` here, `ifname` with the port's MAC, addresses, MTU and default route in a
    /// network namespace (a name under /run/netns or a path).
    Plug {
        port_id: PortId,
        netns: String,
        ifname: String,
    },
    /// Removes the veth pair of a port.
    Unplug {
        port_id: PortId,
    },
    Status,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    Plugged(Plugged),
    Unplugged,
    Status(Box<Status>),
    /// The request was refused or failed; nothing half-made remains.
    Error {
        message: String,
    },
}

/// A port that was plugged and is programmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugged {
    pub port_id: PortId,
    /// The host's end.
    pub link: String,
    /// The other end.
    pub ifname: String,
    pub mac: String,
    pub addresses: Vec<String>,
    pub mtu: u16,
    pub gateway: Option<Ipv4Addr>,
    /// From the request to the tables of the kernel, in milliseconds.
    pub elapsed_ms: f64,
}

/// What the agent knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub host: String,
    pub version: String,
    pub controller: String,
    pub connected: bool,
    /// Revision of the slice, and the one that is in the kernel.
    pub revision: u64,
    pub programmed_revision: u64,
    pub vtep: String,
    pub dvr_mac: String,
    /// Protocol and port, and the kernel device that stands behind it.
    pub tunnel: String,
    pub ports: Vec<PortStatus>,
    pub uplinks: Vec<UplinkStatus>,
    /// Hosts that this one watches by BFD; empty too if the watching stands still.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    pub hooks: Vec<HookStatus>,
    /// Resolved neighbours on external networks.
    pub neighbors: Vec<NeighborStatus>,
    /// Objects of the slice that are wrong.
    pub problems: Vec<ProblemStatus>,
    /// What is wrong with this host.
    pub warnings: Vec<String>,
    /// `in-port`, `drop.route.no-route`, `punt.ttl-exceeded`, as in the protocol. Totals are always there.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    pub port_id: PortId,
    pub link: String,
    pub ifindex: u32,
    pub programmed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    pub physical_network: String,
    pub link: String,
    /// 0: the link is missing.
    pub ifindex: u32,
    pub up: bool,
}

/// A BFD session with another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub host: String,
    pub address: Ipv4Addr,
    /// `admin-down`, `down`, `init` or `up`.
    pub state: String,
    /// May be a gateway.
    pub usable: bool,
    /// What that rests on: `well`, `waiting`, `silent`, `path down`, `hold-down`.
    pub why: String,
    /// How long it has been so, milliseconds.
    pub for_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    pub link: String,
    pub ifindex: u32,
    pub program: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborStatus {
    pub vni: u32,
    pub address: IpAddr,
    pub mac: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemStatus {
    pub object: String,
    pub text: String,
}

/// Why there is no answer from the agent.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no agent answers at {path}; is it running, and is the path its `control_socket`?")]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("the agent at {path} did not answer")]
    Talk { path: PathBuf, source: std::io::Error },
    #[error("the agent at {path} answered something unexpected")]
    Answer { path: PathBuf, source: serde_json::Error },
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent and waits for its answer. Blocks; an answer of [`Response::Error`] becomes `Refused`.
///
/// # Errors
/// The agent is not there, does not answer, or refused.
pub fn request(path: &Path, request: &Request) -> Result<Response, ControlError> {
    let talk = |source| ControlError::Talk { path: path.to_owned(), source };
    let answer = |source| ControlError::Answer { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path)
        .map_err(|source| ControlError::Connect { path: path.to_owned(), source })?;
    stream.set_read_timeout(Some(RESPONSE_WAIT)).map_err(talk)?;
    let mut line = serde_json::to_vec(request).map_err(answer)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(talk)?;
    let mut text = String::new();
    BufReader::new(stream).take(RESPONSE_LEN_MAX).read_line(&mut text).map_err(talk)?;
    match serde_json::from_str(&text).map_err(answer)? {
        Response::Error { message } => Err(ControlError::Refused(message)),
        response => Ok(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_a_person_could_write() {
        let id = "2b3f1c44-0000-4000-8000-000000000001";
        let text = format!(r#"{{"request":"plug","port_id":"{id}","netns":"vm1","ifname":"eth0"}}"#);
        let want = Request::Plug {
            port_id: id.parse().unwrap(),
            netns: "vm1".to_owned(),
            ifname: "eth0".to_owned(),
        };
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), want);
        assert_eq!(serde_json::to_string(&want).unwrap(), text);
        assert_eq!(serde_json::to_string(&Request::Status).unwrap(), r#"{"request":"status"}"#);
    }

    #[test]
    fn an_absent_agent_is_said_to_be_absent() {
        let error = request(Path::new("/nonexistent/agent.sock"), &Request::Status).unwrap_err();
        assert!(error.to_string().starts_with("no agent answers at /nonexistent/agent.sock"));
    }
}
