//! Goal: the wires carry packets as declared, and taking the lab away leaves nothing. Method: a lab without processes
//! (no agent runs), the kernel's own ping between its machines. Needs root.

use super::*;
use crate::down::down;
use crate::plan::Overrides;
use std::process::Command;

const FILE: &str = r#"
name = "replaced"
[[physical_network]]
name = "phys"
[[host]]
name = "h1"
vtep = "10.90.0.1"
physical_networks = ["phys"]
[[host]]
name = "h2"
vtep = "10.90.0.2"
[[external_host]]
name = "gw"
physical_network = "phys"
addresses = ["192.0.2.1/24"]
[[external_host]]
name = "far"
behind = "gw"
addresses = ["8.8.8.8/32"]
[[external_host]]
name = "peer"
physical_network = "phys"
addresses = ["192.0.2.9/24"]
routes = [{ destination = "0.0.0.0/0", via = "192.0.2.1" }]
[[external_host]]
name = "tagged1"
physical_network = "phys"
vlan = 2207
addresses = ["192.0.2.101/24"]
[[external_host]]
name = "tagged2"
physical_network = "phys"
vlan = 2207
addresses = ["192.0.2.102/24"]
[[external_host]]
name = "elsewhere"
physical_network = "phys"
vlan = 2208
addresses = ["192.0.2.103/24"]
"#;

/// A lab that is taken down when the test ends, however it ends.
struct Scratch(Names);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = down(&self.0.lab);
    }
}

fn ping(names: &Names, from: &str, to: &str) -> bool {
    let netns = Netns::open(&names.netns(from)).unwrap();
    let output = netns.run(|| Command::new("ping").args(["-c1", "-W1", to]).output().unwrap()).unwrap();
    output.status.success()
}

#[tokio::test]
async fn root_wires_carry_packets_and_nothing_is_left() {
    let names = Names::new(&format!("fabtest{}", std::process::id()));
    let plan =
        Plan::parse(FILE, &Overrides { name: Some(names.lab.clone()), ..Overrides::default() }).unwrap();
    let scratch = Scratch(names.clone());
    build(&plan, &names).await.unwrap();
    assert_eq!(names.existing_netns().len(), 10, "{:?}", names.existing_netns());
    assert!(ping(&names, "h1", "10.90.0.2"), "host to host over the underlay");
    assert!(ping(&names, "controller", "10.90.0.1"), "controller to host");
    assert!(ping(&names, "peer", "8.8.8.8"), "through the gateway to the machine behind it");
    assert!(ping(&names, "far", "192.0.2.9"), "and from there back");
    assert!(!ping(&names, "peer", "10.90.0.1"), "the physical network is not the underlay");
    assert!(ping(&names, "tagged1", "192.0.2.102"), "on one VLAN");
    assert!(!ping(&names, "tagged1", "192.0.2.103"), "not to another VLAN");
    assert!(!ping(&names, "tagged1", "192.0.2.9"), "not to the untagged segment");
    assert!(names::labs().contains(&names.lab));

    let sleeper = Netns::open(&names.netns("h1")).unwrap();
    let mut child = sleeper.run(|| Command::new("sleep").arg("600").spawn().unwrap()).unwrap();
    assert!(down(&names.lab).unwrap());
    let status = child.wait().unwrap();
    assert!(!status.success(), "the process inside was killed");
    assert!(names.existing_netns().is_empty() && !names::labs().contains(&names.lab));
    assert!(!down(&names.lab).unwrap(), "there is nothing to take down twice");
    drop(scratch);
}
