//! Access ports of the fabric's bridges: frames of a machine outside are tagged on their way in and untagged on
//! their way out, by a program on the bridge's port.

use crate::names::{FABRIC, Names};
use netlink::Netns;

/// Makes a port of a bridge an access port of a VLAN, until the lab's pins are removed.
pub(crate) fn attach(names: &Names, fabric: &Netns, port: &str, vlan: u16) -> anyhow::Result<()> {
    let pins = names.pins().join(FABRIC);
    Ok(fabric.run(|| dataplane::access_port::attach(&pins, port, vlan))??)
}
