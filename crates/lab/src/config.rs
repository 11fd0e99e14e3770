//! Configuration files of the lab's controller and agents.

use crate::names::{self, CONTROLLER, Names, UNDERLAY_LINK};
use crate::plan::{Host, Plan};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Where agents find the controller.
const AGENTS_PORT: u16 = 9697;

/// Where clients find the API.
const API_PORT: u16 = 9696;

/// Configuration of the controller. With `users` the underlay reaches its API, with a password.
pub(crate) fn server(plan: &Plan, names: &Names, users: bool) -> String {
    let dir = names.machine_dir(CONTROLLER);
    let (auth, api_address) =
        if users { ("builtin", plan.controller_address()) } else { ("none", Ipv4Addr::LOCALHOST) };
    format!(
        "auth = \"{auth}\"\napi_listen = \"{api_address}:{API_PORT}\"\n\
         api_socket = {socket:?}\nagents_listen = \"{address}:{AGENTS_PORT}\"\n\
         data_dir = {data:?}\ncertificates = {certificates:?}\ncertificate = \"{CONTROLLER}\"\n\
         tunnel = \"{tunnel}\"\nunderlay_mtu = {mtu}\nnat_log = {nat_log:?}\n",
        socket = names.api_socket(),
        address = plan.controller_address(),
        data = dir.join("store"),
        nat_log = dir.join("nat.log"),
        certificates = names.certificates(),
        tunnel = plan.tunnel.word(),
        mtu = plan.underlay.mtu,
    )
}

/// Configuration of a host's agent.
pub(crate) fn agent(plan: &Plan, names: &Names, host: &Host) -> String {
    let dir = names.machine_dir(&host.name);
    let mut text = format!(
        "host = \"{name}\"\ncontroller = \"{address}:{AGENTS_PORT}\"\ncertificates = {certificates:?}\n\
         vtep = \"{vtep}\"\nunderlay = \"{UNDERLAY_LINK}\"\nstate_dir = {state:?}\npin_dir = {pins:?}\n\
         control_socket = {socket:?}\n[physical_networks]\n",
        name = host.name,
        address = plan.controller_address(),
        certificates = names.certificates(),
        vtep = host.vtep,
        state = dir.join("state"),
        pins = names.pins().join(&host.name),
        socket = names.agent_socket(&host.name),
    );
    for (position, physical) in host.physical_networks.iter().enumerate() {
        let name = &plan.physical_networks[*physical];
        // Writing to a String never fails.
        let _ = writeln!(text, "{name} = \"{}\"", names::uplink(position));
    }
    text
}
