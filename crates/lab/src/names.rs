//! Where a lab keeps what: names of namespaces and links, files and directories.
//!
//! Names of labs and machines never contain a dot, so `nbk-LAB.MACHINE` belongs to exactly one lab.

use netlink::Netns;
use std::fs;
use std::path::PathBuf;

/// Everything the labs of this machine keep is below this directory.
pub(crate) const LABS: &str = "/run/nanboku/lab";
/// Pinned maps and links of the labs' agents.
pub(crate) const PINS: &str = "/sys/fs/bpf/nanboku/lab";
/// The namespace with the bridges that stand for underlay and physical networks.
pub(crate) const FABRIC: &str = "fabric";
/// The namespace of a controller that runs on no host.
pub(crate) const CONTROLLER: &str = "controller";
/// A host's NIC on the underlay.
pub(crate) const UNDERLAY_LINK: &str = "underlay0";
/// The NIC of a VM or of a machine outside.
pub(crate) const GUEST_LINK: &str = "eth0";

/// The names of one lab.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) lab: String,
}

impl Names {
    pub(crate) fn new(lab: &str) -> Self {
        Self { lab: lab.to_owned() }
    }

    pub(crate) fn netns(&self, machine: &str) -> String {
        format!("nbk-{}.{machine}", self.lab)
    }

    /// Namespaces of this lab that exist.
    pub(crate) fn existing_netns(&self) -> Vec<String> {
        let prefix = self.netns("");
        Netns::names().into_iter().filter(|name| name.starts_with(&prefix)).collect()
    }

    pub(crate) fn dir(&self) -> PathBuf {
        PathBuf::from(LABS).join(&self.lab)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir().join("lab.toml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join("state.json")
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.dir().join("certificates")
    }

    pub(crate) fn api_socket(&self) -> PathBuf {
        self.dir().join("api.sock")
    }

    /// Who may log in to a bare lab.
    pub(crate) fn clouds(&self) -> PathBuf {
        self.dir().join("clouds.yaml")
    }

    /// Configuration of the controller.
    pub(crate) fn server_file(&self) -> PathBuf {
        self.machine_dir(CONTROLLER).join("server.toml")
    }

    /// State, configuration and control socket of the process on a machine.
    pub(crate) fn machine_dir(&self, machine: &str) -> PathBuf {
        self.dir().join(machine)
    }

    pub(crate) fn agent_file(&self, host: &str) -> PathBuf {
        self.machine_dir(host).join("agent.toml")
    }

    pub(crate) fn agent_socket(&self, host: &str) -> PathBuf {
        self.machine_dir(host).join("agent.sock")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.dir().join("logs").join(format!("{process}.log"))
    }

    /// Pins of all hosts of this lab.
    pub(crate) fn pins(&self) -> PathBuf {
        PathBuf::from(PINS).join(&self.lab)
    }
}

/// The fabric's end of a host's link to the underlay.
pub(crate) fn underlay_port(host: usize) -> String {
    format!("u{host}")
}

/// A host's NIC of its `position`-th physical network.
pub(crate) fn uplink(position: usize) -> String {
    format!("uplink{position}")
}

/// The fabric's bridge of a physical network.
pub(crate) fn physical_bridge(physical_network: usize) -> String {
    format!("phys{physical_network}")
}

/// The fabric's end of a host's uplink.
pub(crate) fn uplink_port(physical_network: usize, host: usize) -> String {
    format!("p{physical_network}h{host}")
}

/// The fabric's end of an external host's link.
pub(crate) fn access_port(physical_network: usize, external_host: usize) -> String {
    format!("p{physical_network}x{external_host}")
}

/// Names of the labs that have left anything on this machine, sorted: a run directory or namespaces.
pub(crate) fn labs() -> Vec<String> {
    let entries = fs::read_dir(LABS).into_iter().flatten().flatten();
    let mut labs: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let spaces = Netns::names();
    labs.extend(
        spaces.iter().filter_map(|name| Some(name.strip_prefix("nbk-")?.split_once('.')?.0.to_owned())),
    );
    let pins = fs::read_dir(PINS).into_iter().flatten().flatten();
    labs.extend(pins.filter_map(|entry| entry.file_name().into_string().ok()));
    labs.sort();
    labs.dedup();
    labs
}
