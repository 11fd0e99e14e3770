//! The agent's configuration: a TOML file, and flags that override it.
//!
//! Everything is checked before anything is touched; an error names the field, what is wrong and, where
//! there is one, the fix.

use crate::{flow_log, metadata};
use compiler::AclSizes;
use pipeline::bounds::{ACL_REMOTES_MAX, ACL_RULES_MAX, SESSIONS_MAX, SESSIONS_PER_PORT_MAX};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Size of a flow log's file.
const FLOW_LOG_BYTES_MAX: u64 = 64 << 20;
/// A day, as Neutron has it.
const DHCP_LEASE_S: u32 = 86_400;
/// Clients ask again after half of it.
const DHCP_LEASE_S_MIN: u32 = 60;
/// RFC 6887 §15: a day.
const PORT_CONTROL_LIFETIME_S: u32 = 86_400;
/// A year: a VM that is gone for so long is gone.
const PORT_CONTROL_LIFETIME_S_MAX: u32 = 31_536_000;
/// Names the kernel accepts for links are shorter than this.
const LINK_NAME_LEN_MAX: usize = 15;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This host's name: that of its certificate and in the API.
    pub host: String,
    /// Where the controller listens for agents, `host:port`.
    pub controller: String,
    /// Name in the controller's certificate.
    pub controller_name: String,
    /// Directory with `ca.pem`, `<host>.pem` and `<host>.key`.
    pub certificates: PathBuf,
    /// This host's tunnel address.
    pub vtep: Ipv4Addr,
    /// The NIC that carries the tunnel address; none: whichever has it.
    pub underlay: Option<String>,
    /// NIC by physical network.
    pub physical_networks: BTreeMap<String, String>,
    pub state_dir: PathBuf,
    pub pin_dir: PathBuf,
    pub control_socket: PathBuf,
    pub lone_path: bool,
    /// Where Prometheus may scrape, without authentication; none: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Begins and ends of connections; none: they are not logged.
    pub flow_log: Option<flow_log::Settings>,
    /// Between two BFD packets to another host.
    pub bfd_interval_ms: u16,
    /// BFD packets in a row that may be missing.
    pub bfd_multiplier: u8,
    /// BFD goes through the tunnel, so that a host is alive only while its programs are there; otherwise plainly
    /// over the underlay.
    pub bfd_in_tunnel: bool,
    /// Most sessions of one VM's port; 0: no limit.
    pub sessions_per_vm_max: u32,
    /// Room for what security groups allow.
    pub acl_sizes: AclSizes,
    /// For how long DHCP gives an address.
    pub dhcp_lease_s: u32,
    /// Longest life of a mapping that a VM asked for, between two requests.
    pub port_control_lifetime_s: u32,
    /// Where VMs' requests for metadata go; none: nowhere.
    pub metadata: Option<metadata::Settings>,
    /// Take programs, pins and the tunnel device away and exit, instead of running.
    pub detach: bool,
}

/// The file, field by field; all optional because a flag may give the value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    host: Option<String>,
    controller: Option<String>,
    controller_name: Option<String>,
    certificates: Option<PathBuf>,
    vtep: Option<Ipv4Addr>,
    underlay: Option<String>,
    #[serde(default)]
    physical_networks: BTreeMap<String, String>,
    state_dir: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
    control_socket: Option<PathBuf>,
    lone_path: Option<bool>,
    metrics_listen: Option<SocketAddr>,
    flow_log: Option<PathBuf>,
    #[serde(default)]
    flow_log_networks: Vec<String>,
    flow_log_bytes_max: Option<u64>,
    bfd_interval_ms: Option<u16>,
    bfd_multiplier: Option<u8>,
    bfd_in_tunnel: Option<bool>,
    sessions_per_vm_max: Option<u32>,
    acl_remotes_max: Option<u32>,
    acl_rules_max: Option<u32>,
    dhcp_lease_s: Option<u32>,
    port_control_lifetime_s: Option<u32>,
    metadata: Option<MetadataFile>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetadataFile {
    endpoint: Option<String>,
    shared_secret_file: Option<PathBuf>,
}

/// Flags; each wins over the file's field of the same name.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "NANBOKU_AGENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// This host's name: that of its certificate and in the API.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Where the controller listens for agents.
    #[arg(long, value_name = "HOST:PORT")]
    pub controller: Option<String>,
    /// Name in the controller's certificate.
    #[arg(long, value_name = "NAME")]
    pub controller_name: Option<String>,
    /// Directory with ca.pem, NAME.pem and NAME.key.
    #[arg(long, value_name = "DIR")]
    pub certificates: Option<PathBuf>,
    /// This host's tunnel address.
    #[arg(long, value_name = "ADDRESS")]
    pub vtep: Option<Ipv4Addr>,
    /// The NIC that carries the tunnel address; found by the address if not given.
    #[arg(long, value_name = "LINK")]
    pub underlay: Option<String>,
    /// NIC of a physical network; may be repeated.
    #[arg(long = "physical-network", value_name = "NAME=LINK", value_parser = physical_network)]
    pub physical_networks: Vec<(String, String)>,
    /// Where the agent keeps what it must know without a controller.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory of the pinned maps and links, below a mounted bpffs.
    #[arg(long, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Unix socket for `nanboku port plug` and the local status.
    #[arg(long, value_name = "PATH")]
    pub control_socket: Option<PathBuf>,
    /// Whether lone packets are taken out of the tunnel by the program; otherwise by the kernel's device.
    #[arg(long, value_name = "BOOL")]
    pub lone_path: Option<bool>,
    /// Where Prometheus may scrape, without authentication [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// File for begins and ends of connections [default: none].
    #[arg(long, value_name = "FILE")]
    pub flow_log: Option<PathBuf>,
    /// Network (name or id) whose connections are logged; may be repeated.
    #[arg(long = "flow-log-network", value_name = "NETWORK")]
    pub flow_log_networks: Vec<String>,
    /// Size at which a file of the flow log is closed [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    pub flow_log_bytes_max: Option<u64>,
    /// Milliseconds between two BFD packets to another host; 10 to 1000.
    #[arg(long, value_name = "MS")]
    pub bfd_interval_ms: Option<u16>,
    /// BFD packets in a row that may be missing before a host is declared dead; 2 to 20.
    #[arg(long, value_name = "COUNT")]
    pub bfd_multiplier: Option<u8>,
    /// Whether BFD goes through the tunnel; otherwise plainly over the underlay. The same on all hosts.
    #[arg(long, value_name = "BOOL")]
    pub bfd_in_tunnel: Option<bool>,
    /// Most sessions of one VM, 1024 to 262144; 0: no limit.
    #[arg(long, value_name = "COUNT")]
    pub sessions_per_vm_max: Option<u32>,
    /// Seconds for which DHCP gives an address, 60 or more [default: 86400].
    #[arg(long, value_name = "SECONDS")]
    pub dhcp_lease_s: Option<u32>,
    /// Where VMs' requests for metadata go, http://HOST[:PORT] [default: nowhere].
    #[arg(long, value_name = "URL")]
    pub metadata_endpoint: Option<String>,
    /// File with the secret that the metadata endpoint knows too.
    #[arg(long, value_name = "FILE")]
    pub metadata_shared_secret_file: Option<PathBuf>,
    /// Take everything of this agent away from the kernel, and exit.
    #[arg(long)]
    pub detach: bool,
}

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}")]
    Read { path: PathBuf, source: std::io::Error },
    // The message of the parser names line and field; it is the reason, so it is shown with the file.
    #[error("configuration file {path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("`{field}` is missing: give it in the configuration file or as --{flag}")]
    Missing { field: &'static str, flag: &'static str },
    #[error("`{field}` {reason}")]
    Invalid { field: &'static str, reason: String },
}

fn physical_network(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((network, link)) if !network.is_empty() && !link.is_empty() => {
            Ok((network.to_owned(), link.to_owned()))
        }
        _ => Err("is not of the form NAME=LINK, for example physnet1=eth1".to_owned()),
    }
}

impl Config {
    /// Reads the file, if one is named, puts the flags over it and checks the whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let file = match &flags.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        build(file, flags)
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })
}

fn build(file: File, flags: &Flags) -> Result<Config, ConfigError> {
    let missing = |field, flag| ConfigError::Missing { field, flag };
    let host = flags.host.clone().or(file.host).ok_or_else(|| missing("host", "host"))?;
    let mut physical_networks = file.physical_networks;
    physical_networks.extend(flags.physical_networks.iter().cloned());
    let mut networks = file.flow_log_networks;
    networks.extend(flags.flow_log_networks.iter().cloned());
    let flow_log = flow_log(
        flags.flow_log.clone().or(file.flow_log),
        networks,
        flags.flow_log_bytes_max.or(file.flow_log_bytes_max),
    )?;
    let metadata = metadata(file.metadata.unwrap_or_default(), flags)?;
    let config = Config {
        controller: flags
            .controller
            .clone()
            .or(file.controller)
            .ok_or_else(|| missing("controller", "controller"))?,
        controller_name: flags
            .controller_name
            .clone()
            .or(file.controller_name)
            .unwrap_or_else(|| proto::CONTROLLER_NAME.to_owned()),
        certificates: flags
            .certificates
            .clone()
            .or(file.certificates)
            .ok_or_else(|| missing("certificates", "certificates"))?,
        vtep: flags.vtep.or(file.vtep).ok_or_else(|| missing("vtep", "vtep"))?,
        underlay: flags.underlay.clone().or(file.underlay),
        physical_networks,
        state_dir: flags
            .state_dir
            .clone()
            .or(file.state_dir)
            .unwrap_or_else(|| PathBuf::from("/var/lib/nanboku").join(&host)),
        pin_dir: flags
            .pin_dir
            .clone()
            .or(file.pin_dir)
            .unwrap_or_else(|| PathBuf::from("/sys/fs/bpf/nanboku").join(&host)),
        control_socket: flags
            .control_socket
            .clone()
            .or(file.control_socket)
            .unwrap_or_else(|| PathBuf::from("/run/nanboku/agent.sock")),
        lone_path: flags.lone_path.or(file.lone_path).unwrap_or(true),
        metrics_listen: flags.metrics_listen.or(file.metrics_listen),
        flow_log,
        bfd_interval_ms: flags.bfd_interval_ms.or(file.bfd_interval_ms).unwrap_or(40),
        bfd_multiplier: flags.bfd_multiplier.or(file.bfd_multiplier).unwrap_or(3),
        bfd_in_tunnel: flags.bfd_in_tunnel.or(file.bfd_in_tunnel).unwrap_or(true),
        sessions_per_vm_max: flags
            .sessions_per_vm_max
            .or(file.sessions_per_vm_max)
            .unwrap_or(SESSIONS_PER_PORT_MAX),
        acl_sizes: AclSizes {
            remotes: file.acl_remotes_max.unwrap_or(ACL_REMOTES_MAX) as usize,
            rules: file.acl_rules_max.unwrap_or(ACL_RULES_MAX) as usize,
        },
        dhcp_lease_s: flags.dhcp_lease_s.or(file.dhcp_lease_s).unwrap_or(DHCP_LEASE_S),
        port_control_lifetime_s: file.port_control_lifetime_s.unwrap_or(PORT_CONTROL_LIFETIME_S),
        metadata,
        detach: flags.detach,
        host,
    };
    check(&config)?;
    Ok(config)
}

/// An endpoint needs a secret, and a secret an endpoint.
fn metadata(file: MetadataFile, flags: &Flags) -> Result<Option<metadata::Settings>, ConfigError> {
    const ENDPOINT: &str = "metadata.endpoint";
    const SECRET: &str = "metadata.shared_secret_file";
    let endpoint = flags.metadata_endpoint.clone().or(file.endpoint);
    let secret = flags.metadata_shared_secret_file.clone().or(file.shared_secret_file);
    let (endpoint, shared_secret_file) = match (endpoint, secret) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(ConfigError::Missing { field: ENDPOINT, flag: "metadata-endpoint" }),
        (Some(_), None) => {
            return Err(ConfigError::Missing { field: SECRET, flag: "metadata-shared-secret-file" });
        }
        (Some(endpoint), Some(secret)) => (endpoint, secret),
    };
    let endpoint = endpoint.parse().map_err(|error: metadata::NoEndpoint| ConfigError::Invalid {
        field: ENDPOINT,
        reason: error.to_string(),
    })?;
    Ok(Some(metadata::Settings { endpoint, shared_secret_file }))
}

/// A file needs networks, and networks need a file.
fn flow_log(
    path: Option<PathBuf>,
    networks: Vec<String>,
    bytes_max: Option<u64>,
) -> Result<Option<flow_log::Settings>, ConfigError> {
    let invalid = |field, reason: &str| Err(ConfigError::Invalid { field, reason: reason.to_owned() });
    let bytes_max = bytes_max.unwrap_or(FLOW_LOG_BYTES_MAX);
    if !(1 << 16..=1 << 34).contains(&bytes_max) {
        return invalid("flow_log_bytes_max", &format!("is {bytes_max}, not 65536 to 17179869184"));
    }
    match path {
        None if networks.is_empty() => Ok(None),
        None => invalid("flow_log_networks", "names networks, but `flow_log` names no file"),
        Some(_) if networks.is_empty() => {
            invalid("flow_log", "names a file, but `flow_log_networks` names no network")
        }
        Some(path) if !path.is_absolute() => {
            invalid("flow_log", &format!("is {}, not an absolute path", path.display()))
        }
        Some(path) => Ok(Some(flow_log::Settings { path, networks, bytes_max })),
    }
}

/// RFC 6887 §15 has the shortest.
fn check_port_control(lifetime_s: u32) -> Result<(), ConfigError> {
    const MIN: u32 = pcp::LIFETIME_MIN_S;
    if !(MIN..=PORT_CONTROL_LIFETIME_S_MAX).contains(&lifetime_s) {
        let reason = format!("is {lifetime_s}, not {MIN} to {PORT_CONTROL_LIFETIME_S_MAX}");
        return Err(ConfigError::Invalid { field: "port_control_lifetime_s", reason });
    }
    Ok(())
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let invalid = |field, reason: String| Err(ConfigError::Invalid { field, reason });
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if config.host.is_empty() || config.host.len() > 63 || !config.host.chars().all(letter) {
        let reason = format!("is '{}', not 1 to 63 letters, digits, '.', '_' and '-'", config.host);
        return invalid("host", reason);
    }
    let port = config.controller.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        let reason = format!("is '{}', not of the form HOST:PORT", config.controller);
        return invalid("controller", reason);
    }
    let vtep = config.vtep;
    if vtep.is_unspecified() || vtep.is_multicast() || vtep.is_broadcast() || vtep.is_loopback() {
        return invalid("vtep", format!("is {vtep}, not the address of a host"));
    }
    check_bfd(config)?;
    if !matches!(config.sessions_per_vm_max, 0 | 1024..=SESSIONS_MAX) {
        let reason = format!(
            "is {}, not 1024 to {SESSIONS_MAX}, nor 0 for no limit but the host's",
            config.sessions_per_vm_max
        );
        return invalid("sessions_per_vm_max", reason);
    }
    for (field, size, max) in [
        ("acl_remotes_max", config.acl_sizes.remotes, ACL_REMOTES_MAX as usize),
        ("acl_rules_max", config.acl_sizes.rules, ACL_RULES_MAX as usize),
    ] {
        if !(1024..=max).contains(&size) {
            return invalid(field, format!("is {size}, not 1024 to {max}"));
        }
    }
    if config.dhcp_lease_s < DHCP_LEASE_S_MIN {
        return invalid(
            "dhcp_lease_s",
            format!("is {}, not {DHCP_LEASE_S_MIN} or more", config.dhcp_lease_s),
        );
    }
    check_port_control(config.port_control_lifetime_s)?;
    let mut used = BTreeMap::new();
    for (network, link) in &config.physical_networks {
        check_link("physical_networks", link)?;
        if let Some(other) = used.insert(link, network) {
            return invalid(
                "physical_networks",
                format!("gives link '{link}' to both '{other}' and '{network}'"),
            );
        }
    }
    if let Some(link) = &config.underlay {
        check_link("underlay", link)?;
    }
    for (field, path) in [
        ("state_dir", &config.state_dir),
        ("pin_dir", &config.pin_dir),
        ("control_socket", &config.control_socket),
    ] {
        if !path.is_absolute() {
            return invalid(field, format!("is {}, not an absolute path", path.display()));
        }
    }
    Ok(())
}

fn check_bfd(config: &Config) -> Result<(), ConfigError> {
    let Config { bfd_interval_ms, bfd_multiplier, .. } = config;
    if !(10..=1000).contains(bfd_interval_ms) {
        let reason = format!("is {bfd_interval_ms}, not 10 to 1000");
        return Err(ConfigError::Invalid { field: "bfd_interval_ms", reason });
    }
    if !(2..=20).contains(bfd_multiplier) {
        let reason = format!("is {bfd_multiplier}, not 2 to 20");
        return Err(ConfigError::Invalid { field: "bfd_multiplier", reason });
    }
    Ok(())
}

fn check_link(field: &'static str, link: &str) -> Result<(), ConfigError> {
    let fits = (1..=LINK_NAME_LEN_MAX).contains(&link.len());
    if fits && !link.contains(['/', ' ']) {
        return Ok(());
    }
    let reason = format!("names link '{link}'; a link name has 1 to {LINK_NAME_LEN_MAX} letters");
    Err(ConfigError::Invalid { field, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        host = "ahv01"
        controller = "10.1.0.1:9697"
        certificates = "/etc/nanboku/certificates"
        vtep = "10.1.0.11"
        [physical_networks]
        physnet1 = "uplink0"
    "#;

    fn parse(text: &str, flags: &Flags) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        let flags = Flags { config: Some(path), ..flags.clone() };
        Config::load(&flags).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_follow_the_host_name() {
        let config = parse(GOOD, &Flags::default()).unwrap();
        assert_eq!(config.pin_dir, Path::new("/sys/fs/bpf/nanboku/ahv01"));
        assert_eq!(config.state_dir, Path::new("/var/lib/nanboku/ahv01"));
        assert_eq!(config.physical_networks["physnet1"], "uplink0");
        assert!(config.lone_path && config.bfd_in_tunnel);
    }

    #[test]
    fn a_flow_log_needs_a_file_and_networks() {
        let with = |text: &str| parse(&format!("{text}\n{GOOD}"), &Flags::default());
        assert_eq!(with("").unwrap().flow_log, None);
        let log =
            with("flow_log = '/var/log/flows'\nflow_log_networks = ['blue']").unwrap().flow_log.unwrap();
        assert_eq!((log.networks, log.bytes_max), (vec!["blue".to_owned()], 64 << 20));
        for (text, field) in [
            ("flow_log = '/var/log/flows'", "`flow_log`"),
            ("flow_log_networks = ['blue']", "`flow_log_networks`"),
            ("flow_log = 'flows'\nflow_log_networks = ['blue']", "`flow_log`"),
            ("flow_log_bytes_max = 1", "`flow_log_bytes_max`"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.starts_with(field), "{text}: {error}");
        }
        let config = with("metrics_listen = '127.0.0.1:9698'").unwrap();
        assert_eq!(config.metrics_listen, Some("127.0.0.1:9698".parse().unwrap()));
    }

    #[test]
    fn metadata_needs_an_endpoint_and_a_secret() {
        let with = |text: &str| parse(&format!("{GOOD}\n[metadata]\n{text}"), &Flags::default());
        assert_eq!(parse(GOOD, &Flags::default()).unwrap().metadata, None);
        let both = "endpoint = 'http://nova:8775'\nshared_secret_file = '/etc/nanboku/secret'";
        let metadata = with(both).unwrap().metadata.unwrap();
        assert_eq!(metadata.endpoint.to_string(), "http://nova:8775");
        for (text, want) in [
            ("endpoint = 'http://nova:8775'", "`metadata.shared_secret_file` is missing"),
            ("shared_secret_file = '/etc/nanboku/secret'", "`metadata.endpoint` is missing"),
            (
                "endpoint = 'nova:8775'\nshared_secret_file = 'x'",
                "`metadata.endpoint` is 'nova:8775', not of the form http://HOST[:PORT]",
            ),
            ("colour = 'red'", "unknown field `colour`"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Flags {
            host: Some("ahv02".to_owned()),
            physical_networks: vec![("physnet1".to_owned(), "eth9".to_owned())],
            lone_path: Some(false),
            ..Flags::default()
        };
        let config = parse(GOOD, &flags).unwrap();
        assert_eq!(config.host, "ahv02");
        assert_eq!(config.physical_networks["physnet1"], "eth9");
        assert!(!config.lone_path);
    }

    #[test]
    fn wrong_input_is_refused_with_the_field_and_the_reason() {
        let table = [
            ("vtep = \"10.1.0.11\"", "vtep = \"10.1.0\"", "vtep"),
            ("vtep = \"10.1.0.11\"", "vtep = \"224.0.0.1\"", "`vtep` is 224.0.0.1"),
            ("vtep = \"10.1.0.11\"", "", "`vtep` is missing: give it in the configuration file or as --vtep"),
            ("10.1.0.1:9697", "10.1.0.1", "`controller` is '10.1.0.1', not of the form HOST:PORT"),
            ("host = \"ahv01\"", "host = \"a b\"", "`host` is 'a b'"),
            ("host = \"ahv01\"", "host = \"ahv01\"\nhots = 1", "unknown field `hots`"),
            ("uplink0", "much-too-long-link-name", "`physical_networks` names link"),
            ("uplink0\"", "uplink0\"\nphysnet2 = \"uplink0\"", "to both 'physnet1' and 'physnet2'"),
            ("vtep =", "bfd_interval_ms = 5\nvtep =", "`bfd_interval_ms` is 5, not 10 to 1000"),
            ("vtep =", "sessions_per_vm_max = 5\nvtep =", "`sessions_per_vm_max` is 5, not 1024 to 262144"),
            ("vtep =", "acl_rules_max = 5\nvtep =", "`acl_rules_max` is 5, not 1024 to 131072"),
            ("vtep =", "dhcp_lease_s = 5\nvtep =", "`dhcp_lease_s` is 5, not 60 or more"),
            (
                "vtep =",
                "port_control_lifetime_s = 5\nvtep =",
                "`port_control_lifetime_s` is 5, not 120 to 31536000",
            ),
            ("vtep =", "bfd_multiplier = 1\nvtep =", "`bfd_multiplier` is 1, not 2 to 20"),
            ("vtep =", "state_dir = \"here\"\nvtep =", "`state_dir` is here, not an absolute path"),
        ];
        for (from, to, want) in table {
            let text = GOOD.replacen(from, to, 1);
            let error = parse(&text, &Flags::default()).expect_err(want);
            assert!(error.contains(want), "{to}: got '{error}', want '{want}'");
        }
    }
}
