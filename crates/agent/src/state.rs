//! What the agent keeps on disk, so that it starts, reboots and fails over without a controller: the last
//! slice and the last welcome.
//!
//! One JSON file, written whole to a temporary name in the same directory, synced and renamed: a reader sees
//! the old one or the new one. A file of another version, or one that does not parse, is as good as none:
//! the agent says so and asks the controller.

use compiler::{TunnelFacts, TunnelProtocol};
use model::slice::Slice;
use model::{HostId, Mac, NatTimeouts};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "state.json";
/// Changed when the format does; older and newer files are ignored.
const VERSION: u32 = 1;

/// What the controller said at the last connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) host: HostId,
    pub(crate) dvr_mac: Mac,
    pub(crate) cluster: String,
    pub(crate) tunnel: Tunnel,
    /// Not in files of older versions.
    #[serde(default)]
    pub(crate) nat_timeouts: NatTimeouts,
}

/// The cluster's tunnel: `geneve:6081`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Tunnel {
    pub(crate) geneve: bool,
    pub(crate) port: u16,
}

/// Text that names no tunnel.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a tunnel of the form geneve:PORT or vxlan:PORT")]
pub(crate) struct NotATunnel(String);

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    welcome: Welcome,
    slice: Slice,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged or not a state file")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{path} has version {version}, not {VERSION}")]
    Version { path: PathBuf, version: u32 },
}

/// Reads the state, if there is one.
///
/// # Errors
/// There is one that is of no use.
pub(crate) fn load(directory: &Path) -> Result<Option<(Welcome, Slice)>, StateError> {
    let path = directory.join(FILE_NAME);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { path, source }),
    };
    let parse = |source| StateError::Parse { path: path.clone(), source };
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(&text).map_err(parse)?;
    if version != VERSION {
        return Err(StateError::Version { path, version });
    }
    let file: File = serde_json::from_slice(&text).map_err(parse)?;
    Ok(Some((file.welcome, file.slice)))
}

/// Replaces the state.
///
/// # Errors
/// What went wrong with the file; the old one is still there.
pub(crate) fn save(directory: &Path, welcome: &Welcome, slice: &Slice) -> Result<(), StateError> {
    let path = directory.join(FILE_NAME);
    let temporary = directory.join(format!("{FILE_NAME}.new"));
    let file = File { version: VERSION, welcome: welcome.clone(), slice: slice.clone() };
    let text =
        serde_json::to_vec(&file).map_err(|source| StateError::Parse { path: path.clone(), source })?;
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_data()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|source| StateError::Write { path: path.clone(), source })
}

/// What a host's configuration says of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunnelSettings {
    pub(crate) lone_path: bool,
    /// BFD goes through it.
    pub(crate) liveness: bool,
}

impl Tunnel {
    pub(crate) fn facts(self, settings: TunnelSettings, geneve_as_vxlan: bool) -> TunnelFacts {
        let protocol = if self.geneve { TunnelProtocol::Geneve } else { TunnelProtocol::Vxlan };
        let TunnelSettings { lone_path, liveness } = settings;
        TunnelFacts { protocol, port: self.port, lone_path, geneve_as_vxlan, liveness }
    }
}

impl TryFrom<String> for Tunnel {
    type Error = NotATunnel;
    fn try_from(text: String) -> Result<Self, NotATunnel> {
        let parsed = text.split_once(':').and_then(|(name, port)| {
            let geneve = match name {
                "geneve" => true,
                "vxlan" => false,
                _ => return None,
            };
            let port = port.parse().ok().filter(|port| *port != 0)?;
            Some(Self { geneve, port })
        });
        parsed.ok_or(NotATunnel(text))
    }
}

impl From<Tunnel> for String {
    fn from(tunnel: Tunnel) -> String {
        tunnel.to_string()
    }
}

impl std::fmt::Display for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", if self.geneve { "geneve" } else { "vxlan" }, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome() -> Welcome {
        Welcome {
            host: HostId::from_uuid(uuid::Uuid::from_u128(7)),
            dvr_mac: "fa:16:3f:00:00:07".parse().unwrap(),
            cluster: "blue".to_owned(),
            tunnel: Tunnel { geneve: true, port: 6081 },
            nat_timeouts: NatTimeouts { udp_s: 600, ..NatTimeouts::default() },
        }
    }

    #[test]
    fn a_welcome_without_nat_timeouts_has_the_defaults() {
        let mut json = serde_json::to_value(welcome()).unwrap();
        json.as_object_mut().unwrap().remove("nat_timeouts").unwrap();
        let read: Welcome = serde_json::from_value(json).unwrap();
        assert_eq!(read, Welcome { nat_timeouts: NatTimeouts::default(), ..welcome() });
    }

    #[test]
    fn what_is_saved_is_loaded_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()).unwrap(), None);
        for revision in [3, 4] {
            let slice = Slice { revision, ..Slice::default() };
            save(directory.path(), &welcome(), &slice).unwrap();
            assert_eq!(load(directory.path()).unwrap(), Some((welcome(), slice)));
        }
        let names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE_NAME]);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_named_and_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for (text, want) in
            [("{", "damaged"), ("{\"version\":2}", "version 2"), ("{\"version\":1}", "damaged")]
        {
            std::fs::write(&path, text).unwrap();
            let error = load(directory.path()).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn tunnels_have_a_protocol_and_a_port() {
        for text in ["geneve:6081", "vxlan:4789"] {
            assert_eq!(Tunnel::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["", "geneve", "gre:1", "vxlan:0", "vxlan:70000", "geneve:6081 "] {
            assert!(Tunnel::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
