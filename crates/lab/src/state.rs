//! What a running lab remembers on disk: its processes and which port each VM got.

use crate::names::Names;
use crate::plan::Overrides;
use crate::process::Process;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// What differs from the file beside it.
    pub(crate) overrides: Overrides,
    pub(crate) processes: Vec<Process>,
    /// By VM name.
    pub(crate) ports: BTreeMap<String, VmPort>,
    /// Router name to its SNAT addresses, as the controller chose them.
    pub(crate) snat_addresses: BTreeMap<String, Vec<std::net::Ipv4Addr>>,
    /// Everything was up and active once.
    pub(crate) complete: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VmPort {
    pub(crate) id: String,
    pub(crate) mac: String,
    /// The link on the host.
    pub(crate) link: String,
    /// Largest IP packet.
    pub(crate) mtu: u32,
    /// What it makes of its network's IPv6 prefix.
    #[serde(default)]
    pub(crate) ipv6: Option<std::net::Ipv6Addr>,
}

impl State {
    pub(crate) fn load(names: &Names) -> anyhow::Result<Self> {
        let path = names.state();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes the whole state in place of the old one.
    pub(crate) fn save(&self, names: &Names) -> anyhow::Result<()> {
        let path = names.state();
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&fresh, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}
