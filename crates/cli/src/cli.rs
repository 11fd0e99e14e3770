//! The command line: a noun, then a verb. Options are named as in the `openstack` command line where that has
//! them.

use crate::client::Access;
use crate::clouds;
use crate::command;
use crate::output::{Format, Output};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Where somebody begins who knows nothing yet.
const WHEN_IT_FAILS: &str = "\
When something does not work (VM is a port's name or id, see nanboku port list):
  nanboku explain reach VM 8.8.8.8           the first thing in the way, and the command that changes it
  nanboku explain reach VM1 VM2 --tcp 443    the same for a service; with --length 1500, for large packets
  nanboku explain reach NETWORK/ADDRESS FIP  the same from outside to a floating IP, NETWORK is the external one
  nanboku trace --from VM --to 8.8.8.8       every stage on every host, there and back
  nanboku capture --port VM                  its real packets, before and after NAT, and why they are dropped
  nanboku status                             hosts, warnings, counters, drops with their reasons
  nanboku explain drop REASON                what such a reason means, and where it happens";

/// Virtual private clouds for a cluster of Linux hosts: networks, routers, SNAT and floating IPs, forwarded by
/// eBPF on each host.
#[derive(Debug, Parser)]
#[command(name = "nanboku", version, max_term_width = 110, after_help = WHEN_IT_FAILS)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The API: http://HOST:PORT, https://HOST:PORT or unix:PATH [default: http://127.0.0.1:9696, or where the
    /// catalog of the cloud says].
    #[arg(long, global = true, env = "NANBOKU_ENDPOINT", value_name = "URL", help_heading = "Connection")]
    pub(crate) endpoint: Option<String>,
    /// Log in to that cloud of clouds.yaml. Without it the other OS_* variables say who logs in where, if OS_AUTH_URL
    /// is set.
    #[arg(long, global = true, env = "OS_CLOUD", value_name = "NAME", help_heading = "Connection")]
    pub(crate) os_cloud: Option<String>,
    /// PEM file with the authorities to trust, for TLS.
    #[arg(long, global = true, env = "OS_CACERT", value_name = "FILE", help_heading = "Connection")]
    pub(crate) os_cacert: Option<PathBuf>,
    /// Take any certificate: whoever is in between reads and changes everything.
    #[arg(long, global = true, help_heading = "Connection")]
    pub(crate) insecure: bool,
    /// The API of a lab that is up on this machine, instead of an endpoint.
    #[arg(long = "lab", global = true, value_name = "NAME", help_heading = "Connection")]
    pub(crate) lab_name: Option<String>,
    /// How to print.
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(crate) output: Format,
    /// Show only this column or attribute; may be repeated.
    #[arg(long = "column", short, global = true, value_name = "NAME", help_heading = "Output")]
    pub(crate) columns: Vec<String>,
}

impl Global {
    /// How the API is reached.
    ///
    /// # Errors
    /// The cloud that is named is not known.
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        let cloud = match self.os_cloud.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Some(clouds::named(name, clouds::environment)?),
            None => clouds::of_variables(clouds::environment),
        };
        let cacert = self.os_cacert.clone().filter(|path| !path.as_os_str().is_empty());
        Ok(Access { endpoint: self.endpoint.clone(), cloud, cacert, insecure: self.insecure })
    }

    pub(crate) fn output(&self) -> Output {
        Output { format: self.output, columns: self.columns.clone() }
    }
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the controller: the API and the agents' service.
    Server(command::server::ServerArgs),
    /// Run the agent of this host.
    Agent(command::agent::AgentArgs),
    /// Certificates for the controller and the agents.
    #[command(subcommand)]
    Ca(command::ca::CaCommand),
    /// A cluster in network namespaces of this machine.
    #[command(subcommand)]
    Lab(command::lab::LabCommand),
    /// Networks: of tenants, and external ones.
    #[command(subcommand)]
    Network(command::network::NetworkCommand),
    /// Subnets: the addresses of a network.
    #[command(subcommand)]
    Subnet(command::subnet::SubnetCommand),
    /// Ports: what a VM is plugged into.
    #[command(subcommand)]
    Port(command::port::PortCommand),
    /// Routers: one per VPC, distributed over its hosts.
    #[command(subcommand)]
    Router(command::router::RouterCommand),
    /// Floating IPs: external addresses of single ports.
    #[command(subcommand, name = "floatingip", alias = "floating-ip")]
    FloatingIp(command::floatingip::FloatingIpCommand),
    /// Security groups: what ports may send and receive.
    #[command(subcommand, name = "securitygroup", alias = "security-group")]
    SecurityGroup(command::securitygroup::SecurityGroupCommand),
    /// Address groups: named sets of prefixes that rules of security groups may name.
    #[command(subcommand, name = "addressgroup", alias = "address-group")]
    AddressGroup(command::addressgroup::AddressGroupCommand),
    /// Metering labels: what crosses the gateways of routers, counted.
    #[command(subcommand, name = "meteringlabel", alias = "metering-label")]
    MeteringLabel(command::meteringlabel::MeteringLabelCommand),
    /// RBAC policies: what is shared with which projects.
    #[command(subcommand)]
    Rbac(command::rbac::RbacCommand),
    /// Hosts: machines with an agent.
    #[command(subcommand)]
    Host(command::host::HostCommand),
    /// Port blocks: which host has which ports of an external address.
    #[command(subcommand)]
    Block(command::block::BlockCommand),
    /// What would happen to a packet, stage by stage, on every host it touches; with --live, what happens to real ones.
    Trace(command::trace::TraceArgs),
    /// Real packets at the edges of stages, before and after NAT, on one host or all: pcapng, or lines.
    Capture(command::capture::CaptureArgs),
    /// Why A cannot reach B, and what would change that; who answers for an address; what a drop means. Start here.
    #[command(subcommand)]
    Explain(command::explain::ExplainCommand),
    /// MACs: where frames for each go, per network and per physical network.
    Fdb(command::known::KnownArgs),
    /// Neighbours: who has which address, and how that is known.
    Neighbors(command::known::KnownArgs),
    /// Rules: the entries of every stage, what they did, what made them, and which never hit.
    Flows(command::flows::FlowsArgs),
    /// Sessions: one row per connection, both directions and their NAT.
    Sessions(command::sessions::SessionsArgs),
    /// What the cluster or this host is doing: counters, drops with their reasons.
    Status(command::status::StatusArgs),
    /// What is going on now: hosts, ports, flows, drops and NAT blocks, as rates in a terminal.
    Top(command::top::TopArgs),
    /// Print the completion script of a shell.
    Completion(command::completion::CompletionArgs),
    /// Build both scenarios on this machine and prove what they promise.
    Demo(command::demo::DemoArgs),
}

impl Command {
    /// Runs until stopped, and logs what it does.
    pub(crate) fn is_daemon(&self) -> bool {
        match self {
            Self::Server(args) => args.is_daemon(),
            other => matches!(other, Self::Agent(_)),
        }
    }
}

#[cfg(test)]
mod tests;
