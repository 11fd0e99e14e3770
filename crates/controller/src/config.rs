//! The controller's configuration: a TOML file, and flags that override it.
//!
//! Everything is checked before anything is touched; an error names the field, what is wrong and, where there
//! is one, the fix.

mod access;
mod nat;

pub use access::{AccessFlags, Auth, AuthKind, TlsFiles};
pub use nat::{Nat, NatFlags};

use crate::connections::Limits;
use model::Mac;
use model::quota::{Counted, DefaultQuota, LIMIT_MAX, UNLIMITED};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Outer headers of an IPv4 tunnel: Ethernet 14, IPv4 20, UDP 8, Geneve or VXLAN 8.
pub const TUNNEL_OVERHEAD: u16 = 50;
/// Smallest MTU of the underlay with which VMs still get the 1280 bytes every internet link has.
const UNDERLAY_MTU_MIN: u16 = 1280 + TUNNEL_OVERHEAD;
const UNDERLAY_MTU_MAX: u16 = 9216;
const GRACE_MS_MAX: u64 = 600_000;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Holds the store; none: everything is in memory and gone with the process (tests).
    pub data_dir: Option<PathBuf>,
    pub api_listen: Option<SocketAddr>,
    pub auth: Auth,
    /// Of `api_listen`; none: plain HTTP.
    pub api_tls: Option<TlsFiles>,
    /// Made with mode 0600. Who reaches it is the administrator.
    pub api_socket: Option<PathBuf>,
    pub agents_listen: SocketAddr,
    /// Where Prometheus may scrape, without authentication; none: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Directory with `ca.pem`, `<certificate>.pem` and `<certificate>.key`.
    pub certificates: PathBuf,
    pub certificate: String,
    pub tunnel: Tunnel,
    /// Networks get this less [`TUNNEL_OVERHEAD`].
    pub underlay_mtu: u16,
    pub dvr_base_mac: Mac,
    /// How long a host stays live after its agent's stream broke.
    pub liveness_grace: Duration,
    pub nat: Nat,
    /// Of the API's connections.
    pub limits: Limits,
    /// Of projects for which nothing was said.
    pub quotas: DefaultQuota,
}

/// How hosts send to one another: one choice for the cluster. Displays as agents are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 8926.
    #[default]
    Geneve,
    /// RFC 7348.
    Vxlan,
}

impl Protocol {
    /// The port IANA gave it.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Geneve => 6081,
            Self::Vxlan => 4789,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Geneve => "geneve",
            Protocol::Vxlan => "vxlan",
        };
        write!(f, "{protocol}:{}", self.port)
    }
}

/// The file, field by field; all optional because a flag or a default may give the value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    api_listen: Option<String>,
    api_socket: Option<PathBuf>,
    agents_listen: Option<String>,
    metrics_listen: Option<String>,
    certificates: Option<PathBuf>,
    certificate: Option<String>,
    tunnel: Option<Protocol>,
    tunnel_port: Option<u16>,
    underlay_mtu: Option<u16>,
    dvr_base_mac: Option<String>,
    liveness_grace_ms: Option<u64>,
    nat_log: Option<PathBuf>,
    nat_log_bytes_max: Option<u64>,
    nat_log_files: Option<u32>,
    nat_log_syslog: Option<bool>,
    nat_log_syslog_socket: Option<PathBuf>,
    block_hold_s: Option<u64>,
    block_reassign_after_s: Option<u64>,
    #[serde(default)]
    nat: nat::Table,
    auth: Option<AuthKind>,
    api_certificate: Option<PathBuf>,
    api_key: Option<PathBuf>,
    #[serde(default)]
    identity: access::IdentityTable,
    #[serde(default)]
    keystone: access::KeystoneTable,
    #[serde(default)]
    quotas: BTreeMap<String, i64>,
}

impl File {
    fn access(&self) -> AccessFlags {
        let (api_certificate, api_key) = (self.api_certificate.clone(), self.api_key.clone());
        AccessFlags { auth: self.auth, api_certificate, api_key }
    }

    fn nat(&self) -> NatFlags {
        NatFlags {
            nat_log: self.nat_log.clone(),
            nat_log_bytes_max: self.nat_log_bytes_max,
            nat_log_files: self.nat_log_files,
            nat_log_syslog: self.nat_log_syslog,
            nat_log_syslog_socket: self.nat_log_syslog_socket.clone(),
            block_hold_s: self.block_hold_s,
            block_reassign_after_s: self.block_reassign_after_s,
        }
    }
}

/// Flags; each wins over the file's field of the same name.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "NANBOKU_SERVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Directory of the store [default: /var/lib/nanboku/controller].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the API, or `off`; off loopback it needs `--auth` [default: 127.0.0.1:9696].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub api_listen: Option<String>,
    /// Unix socket of the API, for its owner alone [default: none].
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<PathBuf>,
    /// Where agents connect [default: 0.0.0.0:9697].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub agents_listen: Option<String>,
    /// Where Prometheus may scrape, without authentication [default: nowhere].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Directory with ca.pem, NAME.pem and NAME.key, as `nanboku ca` makes it.
    #[arg(long, value_name = "DIR")]
    pub certificates: Option<PathBuf>,
    /// Which certificate there is the controller's [default: controller].
    #[arg(long, value_name = "NAME")]
    pub certificate: Option<String>,
    /// Tunnel protocol of the cluster [default: geneve].
    #[arg(long, value_name = "PROTOCOL")]
    pub tunnel: Option<Protocol>,
    /// UDP port of the tunnel [default: 6081 for geneve, 4789 for vxlan].
    #[arg(long, value_name = "PORT")]
    pub tunnel_port: Option<u16>,
    /// MTU of the network between the hosts [default: 1500].
    #[arg(long, value_name = "BYTES")]
    pub underlay_mtu: Option<u16>,
    /// Hosts get the MAC addresses above it [default: fa:16:3f:00:00:00].
    #[arg(long, value_name = "MAC")]
    pub dvr_base_mac: Option<String>,
    /// How long a host stays live after its agent's stream broke [default: 10000].
    #[arg(long, value_name = "MS")]
    pub liveness_grace_ms: Option<u64>,
    #[command(flatten)]
    pub nat: NatFlags,
    #[command(flatten)]
    pub access: AccessFlags,
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
    #[error("`{table}.{field}` is {seconds}, not between {min_s} and {max_s}")]
    OutOfRange { table: &'static str, field: &'static str, seconds: u32, min_s: u32, max_s: u32 },
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
        let nat = flags.nat.clone().or(file.nat()).build(file.nat.timeouts)?;
        let access = flags.access.clone().or(file.access());
        build(overlaid(file, flags.clone()), nat, &access)
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })
}

fn overlaid(file: File, flags: Flags) -> File {
    File {
        data_dir: flags.data_dir.or(file.data_dir),
        api_listen: flags.api_listen.or(file.api_listen),
        api_socket: flags.api_socket.or(file.api_socket),
        agents_listen: flags.agents_listen.or(file.agents_listen),
        metrics_listen: flags.metrics_listen.or(file.metrics_listen),
        certificates: flags.certificates.or(file.certificates),
        certificate: flags.certificate.or(file.certificate),
        tunnel: flags.tunnel.or(file.tunnel),
        tunnel_port: flags.tunnel_port.or(file.tunnel_port),
        underlay_mtu: flags.underlay_mtu.or(file.underlay_mtu),
        dvr_base_mac: flags.dvr_base_mac.or(file.dvr_base_mac),
        liveness_grace_ms: flags.liveness_grace_ms.or(file.liveness_grace_ms),
        ..file
    }
}

fn build(file: File, nat: Nat, access: &AccessFlags) -> Result<Config, ConfigError> {
    let protocol = file.tunnel.unwrap_or_default();
    let certificates =
        file.certificates.ok_or(ConfigError::Missing { field: "certificates", flag: "certificates" })?;
    let certificate = file.certificate.unwrap_or_else(|| proto::CONTROLLER_NAME.to_owned());
    let auth = access.auth(&file.identity, &file.keystone)?;
    let listen = file.api_listen.as_deref().unwrap_or("127.0.0.1:9696");
    let listen = api_listen(listen, &file.api_socket, &auth)?;
    Ok(Config {
        data_dir: Some(file.data_dir.unwrap_or_else(|| "/var/lib/nanboku/controller".into())),
        api_listen: listen,
        api_tls: access.tls(listen, &certificates, &certificate)?,
        auth,
        api_socket: file.api_socket,
        agents_listen: address("agents_listen", file.agents_listen.as_deref().unwrap_or("0.0.0.0:9697"))?,
        metrics_listen: file.metrics_listen.map(|text| address("metrics_listen", &text)).transpose()?,
        certificates,
        certificate,
        tunnel: Tunnel { protocol, port: tunnel_port(file.tunnel_port.unwrap_or(protocol.default_port()))? },
        underlay_mtu: underlay_mtu(file.underlay_mtu.unwrap_or(1500))?,
        dvr_base_mac: base_mac(file.dvr_base_mac.as_deref().unwrap_or("fa:16:3f:00:00:00"))?,
        liveness_grace: grace(file.liveness_grace_ms.unwrap_or(10_000))?,
        nat,
        limits: Limits::default(),
        quotas: quotas(&file.quotas)?,
    })
}

fn quotas(given: &BTreeMap<String, i64>) -> Result<DefaultQuota, ConfigError> {
    let mut quotas = DefaultQuota::default();
    for (name, limit) in given {
        let Some(counted) = Counted::ALL.into_iter().find(|counted| counted.name() == name) else {
            let names = Counted::ALL.map(Counted::name).join(", ");
            return invalid("quotas", format!("has '{name}', which is not one of {names}"));
        };
        if !(UNLIMITED..=LIMIT_MAX).contains(limit) {
            return invalid(
                "quotas",
                format!("has {name} = {limit}, not between {UNLIMITED} and {LIMIT_MAX}"),
            );
        }
        quotas.set(counted, *limit);
    }
    Ok(quotas)
}

fn invalid<T>(field: &'static str, reason: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid { field, reason: reason.into() })
}

fn address(field: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    match text.parse() {
        Ok(address) => Ok(address),
        Err(_) => invalid(field, format!("is '{text}', not an address and a port such as 127.0.0.1:9696")),
    }
}

fn api_listen(text: &str, socket: &Option<PathBuf>, auth: &Auth) -> Result<Option<SocketAddr>, ConfigError> {
    const FIELD: &str = "api_listen";
    if text == "off" {
        return match socket {
            Some(_) => Ok(None),
            None => invalid(FIELD, "is 'off' and there is no `api_socket`: the API would be nowhere"),
        };
    }
    let listen = address(FIELD, text)?;
    if !listen.ip().is_loopback() && *auth == Auth::None {
        let reason = "which is not a loopback address, and `auth` is 'none': everybody there would be the administrator";
        return invalid(FIELD, format!("is {listen}, {reason}; use 127.0.0.1, or `auth = 'builtin'`"));
    }
    Ok(Some(listen))
}

fn tunnel_port(port: u16) -> Result<u16, ConfigError> {
    if port == 0 { invalid("tunnel_port", "is 0, not a UDP port") } else { Ok(port) }
}

fn underlay_mtu(mtu: u16) -> Result<u16, ConfigError> {
    if (UNDERLAY_MTU_MIN..=UNDERLAY_MTU_MAX).contains(&mtu) {
        return Ok(mtu);
    }
    invalid("underlay_mtu", format!("is {mtu}, not between {UNDERLAY_MTU_MIN} and {UNDERLAY_MTU_MAX}"))
}

fn base_mac(text: &str) -> Result<Mac, ConfigError> {
    match text.parse() {
        Ok(mac) => Ok(mac),
        Err(_) => {
            invalid("dvr_base_mac", format!("is '{text}', not a unicast MAC such as fa:16:3f:00:00:00"))
        }
    }
}

fn grace(ms: u64) -> Result<Duration, ConfigError> {
    if ms <= GRACE_MS_MAX {
        return Ok(Duration::from_millis(ms));
    }
    invalid(
        "liveness_grace_ms",
        format!("is {ms}, more than {GRACE_MS_MAX}: a dead gateway would be used for as long"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::NatTimeouts;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&Flags { config: Some(path), ..Flags::default() })
    }

    #[test]
    fn an_almost_empty_file_is_enough() {
        let config = load("certificates = '/etc/nanboku/pki'").unwrap();
        assert_eq!(config.api_listen, Some("127.0.0.1:9696".parse().unwrap()));
        assert_eq!(config.agents_listen, "0.0.0.0:9697".parse().unwrap());
        assert_eq!(config.tunnel.to_string(), "geneve:6081");
        assert_eq!(config.dvr_base_mac.to_string(), "fa:16:3f:00:00:00");
        assert_eq!(config.liveness_grace, Duration::from_secs(10));
        assert_eq!(config.certificate, "controller");
        assert_eq!(config.nat, Nat::default());
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, "certificates = 'a'\ntunnel = 'geneve'\ndata_dir = 'b'").unwrap();
        let flags = Flags {
            config: Some(path),
            certificates: Some("c".into()),
            tunnel: Some(Protocol::Vxlan),
            ..Flags::default()
        };
        let config = Config::load(&flags).unwrap();
        assert_eq!(config.certificates, PathBuf::from("c"));
        assert_eq!(config.data_dir, Some(PathBuf::from("b")));
        assert_eq!(config.tunnel.to_string(), "vxlan:4789");
    }

    #[test]
    fn the_nat_log_is_kept_where_and_how_it_says() {
        let config =
            load("certificates = 'x'\nnat_log = '/l'\nnat_log_syslog = true\nnat_log_files = 2").unwrap();
        let log = config.nat.log.unwrap();
        assert_eq!((log.path, log.files, log.bytes_max), ("/l".into(), 2, 64 << 20));
        assert_eq!(log.syslog, Some("/dev/log".into()));
        let config = load("certificates = 'x'\nblock_reassign_after_s = 0\nblock_hold_s = 30").unwrap();
        assert_eq!(config.nat.block_reassign_after, None);
        assert_eq!(config.nat.block_hold, Duration::from_secs(30));
    }

    /// The file without its directory, which every one needs.
    fn timeouts(text: &str) -> Result<NatTimeouts, String> {
        let config = load(&format!("certificates = 'x'\n[nat.timeouts]\n{text}"));
        config.map(|config| config.nat.timeouts).map_err(|error| error.to_string())
    }

    #[test]
    fn nat_timeouts_are_set_one_by_one() {
        let default = NatTimeouts::default();
        assert_eq!(timeouts(""), Ok(default));
        let want = NatTimeouts { udp_s: 600, tcp_established_s: 86_400, ..default };
        assert_eq!(timeouts("udp_s = 600\ntcp_established_s = 86400"), Ok(want));
    }

    /// RFC 4787 REQ-5b (MAY): the UDP timer is configurable, and not below the two minutes of REQ-5.
    #[test]
    fn rfc4787_req5b_the_udp_timer_is_configurable_from_two_minutes_up() {
        assert_eq!(timeouts("udp_s = 120").map(|set| set.udp_s), Ok(120));
        assert_eq!(
            timeouts("udp_s = 119"),
            Err("`nat.timeouts.udp_s` is 119, not between 120 and 86400".into())
        );
    }

    /// RFC 5382 REQ-5a (MAY): the timers of TCP are configurable, and not below REQ-5.
    #[test]
    fn rfc5382_req5a_the_timers_of_tcp_are_configurable_from_the_minimum_up() {
        let set = timeouts("tcp_established_s = 7440\ntcp_transitory_s = 240\ntcp_closed_s = 300").unwrap();
        assert_eq!((set.tcp_established_s, set.tcp_transitory_s, set.tcp_closed_s), (7440, 240, 300));
        for (text, want) in [
            (
                "tcp_established_s = 7439",
                "`nat.timeouts.tcp_established_s` is 7439, not between 7440 and 2592000",
            ),
            ("tcp_transitory_s = 239", "`nat.timeouts.tcp_transitory_s` is 239, not between 240 and 86400"),
            ("tcp_closed_s = 10", "`nat.timeouts.tcp_closed_s` is 10, not between 240 and 3600"),
        ] {
            assert_eq!(timeouts(text), Err(want.into()));
        }
    }

    /// RFC 5508 REQ-2a (SHOULD): the timer of ICMP queries is configurable, and not below the minute of REQ-2.
    #[test]
    fn rfc5508_req2a_the_icmp_timer_is_configurable_from_one_minute_up() {
        assert_eq!(timeouts("icmp_s = 90").map(|set| set.icmp_s), Ok(90));
        assert_eq!(
            timeouts("icmp_s = 59"),
            Err("`nat.timeouts.icmp_s` is 59, not between 60 and 3600".into())
        );
    }

    #[test]
    fn nat_timeouts_that_make_no_sense_are_named() {
        for (text, want) in [
            ("udp = 300", "unknown field `udp`"),
            ("udp_s = -1", "udp_s"),
            ("udp_s = '5m'", "udp_s"),
            ("port_rest_s = 1", "`nat.timeouts.port_rest_s` is 1, not between 120 and 3600"),
        ] {
            let error = timeouts(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn off_loopback_there_is_always_tls() {
        let config = load("certificates = '/p'\nauth = 'builtin'").unwrap();
        assert_eq!((config.auth, config.api_tls), (Auth::Builtin(identity::Settings::default()), None));
        let config = load("certificates = '/p'\nauth = 'builtin'\napi_listen = '0.0.0.0:9696'").unwrap();
        let own = TlsFiles { certificate: "/p/controller.pem".into(), key: "/p/controller.key".into() };
        assert_eq!(config.api_tls, Some(own));
        let files = "api_certificate = 'a.pem'\napi_key = 'a.key'";
        let config = load(&format!("certificates = '/p'\n{files}")).unwrap();
        assert_eq!(config.api_tls, Some(TlsFiles { certificate: "a.pem".into(), key: "a.key".into() }));
        assert_eq!(config.auth, Auth::None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        const PKI: &str = "certificates = 'x'\n";
        let cases = [
            ("", "`certificates` is missing"),
            ("api_lisen = '127.0.0.1:1'", "unknown field `api_lisen`"),
            ("api_listen = '0.0.0.0:9696'", "not a loopback address, and `auth` is 'none'"),
            ("auth = 'ldap'", "unknown variant `ldap`"),
            ("api_key = 'x'", "`api_key` is given without `api_certificate`"),
            ("auth = 'builtin'\n[identity]\ntoken_ttl_s = 1", "`identity.token_ttl_s` is 1, not between"),
            ("auth = 'keystone'", "`keystone.url` is missing"),
            ("auth = 'keystone'\n[keystone]\nurl = 'x'", "`keystone.url` is 'x', not a URL"),
            ("api_listen = 'localhost'", "`api_listen` is 'localhost'"),
            ("api_listen = 'off'", "the API would be nowhere"),
            ("agents_listen = 'x'", "`agents_listen` is 'x'"),
            ("[quotas]\nprot = 5", "`quotas` has 'prot', which is not one of network, subnet, port"),
            ("[quotas]\nport = -2", "`quotas` has port = -2, not between -1 and 2147483647"),
            ("tunnel = 'gre'", "unknown variant `gre`"),
            ("tunnel_port = 70000", "tunnel_port"),
            ("tunnel_port = 0", "`tunnel_port` is 0"),
            ("underlay_mtu = 1000", "`underlay_mtu` is 1000"),
            ("dvr_base_mac = '01:00:5e:00:00:00'", "`dvr_base_mac` is '01:00:5e:00:00:00'"),
            ("nat_log_bytes_max = 10", "`nat_log_bytes_max` is 10, not between 65536 and 17179869184"),
            ("nat_log_files = 0", "`nat_log_files` is 0, not between 1 and 1000"),
            ("nat_log_syslog = true", "`nat_log_syslog` is true without `nat_log`"),
            ("block_hold_s = 1", "`block_hold_s` is 1, not between 10 and 2592000"),
            ("block_reassign_after_s = 5", "not between 300 and 2592000, or 0 for never"),
            ("liveness_grace_ms = 1000000", "`liveness_grace_ms` is 1000000"),
        ];
        for (text, want) in cases {
            let text = if text.is_empty() { String::new() } else { format!("{PKI}{text}") };
            let error = load(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{text:?} gave {error:?}");
        }
    }
}
