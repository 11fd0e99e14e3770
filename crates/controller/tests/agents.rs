//! What an agent sees of the controller, over real TLS: who is let in, what it is told and when, and what its acks
//! do.

mod common;
#[path = "agents/lost.rs"]
mod lost;
#[path = "agents/management.rs"]
mod management;

use common::agent::{Cluster, PATIENCE, hello, until};
use common::world::{World, floating_ip_id, host_id, network_id, port_id, router_id};
use controller::agents::{Inquiry, Part};
use model::HostId;
use model::question::Question;
use model::resource::{AddressPair, FixedIp, FloatingIp, Host, Port, PortBlock};
use model::slice::Slice;
use proto::agent_message::Message as ToController;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tonic::Code;

/// A VPC `blue` with SNAT address 172.22.7.27 behind physical network physnet1.
fn vpc(cluster: &Cluster) -> World {
    let world = World::over(cluster.server.store.clone());
    world.external_network("ext", "physnet1", Some(2207), "172.22.7.0/24");
    world.network("blue", "192.168.10.0/24");
    world.router("blue");
    world.attach("blue", "blue", "192.168.10.1");
    world.gateway("blue", "ext", "172.22.7.27");
    world
}

fn host_of(world: &World, name: &str) -> Host {
    Host::clone(world.snapshot().host_by_name(name).unwrap())
}

fn programmed_on(store: &store::Snapshot, port: &str) -> Option<String> {
    let host = store.get::<Port>(port_id(port))?.programmed_on?;
    Some(store.get::<Host>(host)?.name.clone())
}

fn is_programmed(store: &store::Snapshot, floating_ip: &str) -> bool {
    store.get::<FloatingIp>(floating_ip_id(floating_ip)).unwrap().programmed
}

fn gateways(slice: &Slice) -> usize {
    slice.external_networks.get(&network_id("ext")).map_or(0, |network| network.gateways.len())
}

#[tokio::test]
async fn a_host_enters_with_its_first_hello() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let agent = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    let host = host_of(&world, "ahv01");
    assert_eq!(agent.welcome.host_id, host.id.to_string());
    assert_eq!(agent.welcome.dvr_mac, "fa:16:3f:00:00:01");
    assert_eq!(agent.welcome.tunnel, "geneve:6081");
    assert_eq!(agent.welcome.cluster_id, world.snapshot().cluster_id.to_string());
    assert_eq!(agent.slice.hosts.keys().copied().collect::<Vec<_>>(), [host.id]);
    assert!(!host.live, "connected is not live");
    agent.ack(&[]).await;
    until(&world.store, "ahv01 to be live", |store| store.get::<Host>(host.id).unwrap().live).await;
    cluster.server.shutdown().await;
}

#[tokio::test]
async fn an_agent_is_told_the_idle_times_of_the_configuration() {
    let set = model::NatTimeouts { udp_s: 600, tcp_established_s: 86_400, ..Default::default() };
    let cluster = Cluster::start_with(|config| config.nat.timeouts = set).await;
    let agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let told = agent.welcome.nat_timeouts.unwrap();
    assert_eq!((told.udp_s, told.tcp_established_s), (600, 86_400));
    assert_eq!(
        (told.icmp_s, told.tcp_transitory_s, told.tcp_closed_s, told.port_rest_s),
        (60, 240, 240, 120)
    );
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let cluster = Cluster::start().await;
    let foreign = tempfile::tempdir().unwrap();
    common::agent::pki(foreign.path(), &["ahv01"]);
    // Knows our authority, holds a foreign certificate.
    std::fs::copy(cluster.dir.path().join("ca.pem"), foreign.path().join("ca.pem")).unwrap();
    let Ok(channel) = cluster.channel(foreign.path(), Some("ahv01")).await else { return };
    // In TLS 1.3 a client hears of the refusal with its first words.
    let opened = common::agent::Agent::open(channel, hello("ahv01", "10.0.0.1", &[])).await;
    assert!(opened.is_err());
    assert!(cluster.server.store.snapshot().hosts.is_empty());
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let cluster = Cluster::start().await;
    let Ok(channel) = cluster.channel(cluster.dir.path(), None).await else { return };
    let opened = common::agent::Agent::open(channel, hello("ahv01", "10.0.0.1", &[])).await;
    assert!(opened.is_err());
    assert!(cluster.server.store.snapshot().hosts.is_empty());
}

#[tokio::test]
async fn a_host_cannot_speak_for_another() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.stream("ahv02", hello("ahv01", "10.0.0.1", &[])).await.unwrap();
    let end = agent.end().await;
    assert_eq!(end.code(), Code::PermissionDenied);
    assert!(end.message().contains("'ahv01'"), "{}", end.message());
    assert!(cluster.server.store.snapshot().hosts.is_empty());
}

#[tokio::test]
async fn a_hello_that_makes_no_sense_is_refused_with_the_reason() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.stream("ahv01", hello("ahv01", "nowhere", &[])).await.unwrap();
    let end = agent.end().await;
    assert_eq!(end.code(), Code::InvalidArgument);
    assert!(end.message().contains("'nowhere'"), "{}", end.message());
    cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let mut agent = cluster.stream("ahv02", hello("ahv02", "10.0.0.1", &[])).await.unwrap();
    let end = agent.end().await;
    assert_eq!(end.code(), Code::AlreadyExists);
    assert!(end.message().contains("'ahv01'"), "{}", end.message());
}

#[tokio::test]
async fn a_change_reaches_the_hosts_it_touches_as_a_delta_that_may_be_applied_twice() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut near = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let mut far = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    far.expect_silence().await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    near.until("vm1", |slice| slice.ports.contains_key(&port_id("vm1"))).await;
    assert_eq!(near.deltas.len(), 1, "port, network, router and block come in one delta: {:#?}", near.deltas);
    let once = near.slice.clone();
    near.slice.apply(near.deltas[0].clone());
    assert_eq!(near.slice, once);
    far.expect_silence().await;
    world.remove::<Port>(port_id("vm1"));
    near.until("vm1 to go", |slice| slice.ports.is_empty()).await;
    assert!(near.slice.networks.is_empty() && near.slice.routers.is_empty() && near.slice.blocks.is_empty());
}

#[tokio::test]
async fn what_an_agent_has_after_deltas_is_what_a_new_one_gets() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.port("vm2", "blue", "192.168.10.11", "ahv01");
    world.floating_ip("172.22.7.100", "ext", "vm1", "blue");
    world.remove::<Port>(port_id("vm2"));
    agent
        .until("all of it", |slice| {
            slice.ports.len() == 1 && slice.floating_ips.len() == 1 && slice.blocks.len() == 1
        })
        .await;
    let again = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    assert_eq!(Slice { revision: 0, ..again.slice }, Slice { revision: 0, ..agent.slice.clone() });
    assert_eq!(agent.end().await.code(), Code::Aborted, "the new stream replaces the old one");
}

#[tokio::test]
async fn a_port_is_active_while_its_host_says_so() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("vm1", |slice| slice.ports.contains_key(&port_id("vm1"))).await;
    assert_eq!(programmed_on(&world.snapshot(), "vm1"), None);
    agent.ack(&[port_id("vm1")]).await;
    until(&world.store, "vm1 programmed", |store| programmed_on(store, "vm1").as_deref() == Some("ahv01"))
        .await;
    agent.ack(&[]).await;
    until(&world.store, "vm1 unplugged", |store| programmed_on(store, "vm1").is_none()).await;
    agent.ack(&[port_id("vm1")]).await;
    until(&world.store, "vm1 programmed", |store| programmed_on(store, "vm1").is_some()).await;
    world.change::<Port>(port_id("vm1"), |port| port.binding_host.clear());
    until(&world.store, "vm1 unbound", |store| programmed_on(store, "vm1").is_none()).await;
}

#[tokio::test]
async fn a_host_cannot_make_a_port_active_that_is_bound_elsewhere() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut other = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.port("vm2", "blue", "192.168.10.11", "ahv02");
    other.until("vm1 and vm2", |slice| slice.ports.len() == 2).await;
    other.ack(&[port_id("vm1"), port_id("vm2")]).await;
    until(&world.store, "vm2 programmed", |store| programmed_on(store, "vm2").is_some()).await;
    assert_eq!(programmed_on(&world.snapshot(), "vm1"), None);
}

#[tokio::test]
async fn a_floating_ip_is_active_once_the_host_of_its_port_has_it_as_it_is() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.port("vm2", "blue", "192.168.10.11", "ahv01");
    agent.until("vm1 and vm2", |slice| slice.ports.len() == 2).await;
    agent.ack(&[]).await;
    world.floating_ip("172.22.7.100", "ext", "vm1", "blue");
    agent.until("the floating IP", |slice| slice.floating_ips.len() == 1).await;
    assert!(!is_programmed(&world.snapshot(), "172.22.7.100"));
    agent.ack(&[]).await;
    until(&world.store, "the ack to count", |store| is_programmed(store, "172.22.7.100")).await;
    // Moved to vm2, and whoever moved it forgot to take the mark away.
    world.change::<FloatingIp>(floating_ip_id("172.22.7.100"), |floating_ip| {
        let association = floating_ip.association.as_mut().unwrap();
        association.port = port_id("vm2");
        association.fixed_address = "192.168.10.11".parse().unwrap();
    });
    until(&world.store, "the mark to go", |store| !is_programmed(store, "172.22.7.100")).await;
    agent
        .until("the move", |slice| {
            slice.floating_ips.values().any(|floating_ip| floating_ip.port == port_id("vm2"))
        })
        .await;
    agent.ack(&[]).await;
    until(&world.store, "the ack to count", |store| is_programmed(store, "172.22.7.100")).await;
}

/// Of a floating IP whose ports are forwarded, every host that has one of them has to say so.
#[tokio::test]
async fn a_forwarding_floating_ip_is_active_once_every_host_has_its_part() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut first = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let mut second = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.port("vm2", "blue", "192.168.10.11", "ahv02");
    world.floating_ip("172.22.7.100", "ext", "vm1", "blue");
    world.forward("172.22.7.100", 2201, "vm1", "blue");
    world.forward("172.22.7.100", 2202, "vm2", "blue");
    for agent in [&mut first, &mut second] {
        agent.until("both forwardings", |slice| slice.port_forwardings.len() == 2).await;
        assert!(!is_programmed(&world.snapshot(), "172.22.7.100"), "one of the hosts has not said so");
        agent.ack(&[]).await;
    }
    until(&world.store, "the acks to count", |store| is_programmed(store, "172.22.7.100")).await;
}

#[tokio::test]
async fn a_port_bound_nowhere_is_bound_where_its_link_appears() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "");
    world.port("vm2", "blue", "192.168.10.11", "");
    world.port("vm3", "blue", "192.168.10.12", "ahv02");
    let ids = [port_id("vm1"), port_id("vm2"), port_id("vm3")].map(|id| id.to_string());
    let leg = port_id("blue:blue").to_string();
    // The agent knows a whole id, or what the name of a link holds of it.
    agent.links(&[&ids[0], &ids[1][..11], &ids[2], &leg, "tap", "ffffffff-ff"]).await;
    agent
        .until("vm1 and vm2", |slice| slice.ports.values().filter(|port| port.host.is_some()).count() == 2)
        .await;
    let bound = |name: &str| world.snapshot().get::<Port>(port_id(name)).unwrap().binding_host.clone();
    assert_eq!([bound("vm1"), bound("vm2"), bound("vm3")], ["ahv01", "ahv01", "ahv02"]);
    assert_eq!(bound("blue:blue"), "");
    // Unbound by hand while the link is still there: it stays unbound.
    world.change::<Port>(port_id("vm1"), |port| port.binding_host.clear());
    agent.links(&[&ids[0], &ids[1][..11]]).await;
    agent.until("vm1 to be nowhere", |slice| slice.ports[&port_id("vm1")].host.is_none()).await;
    agent.expect_silence().await;
    // The link goes and comes back.
    agent.links(&[&ids[1][..11]]).await;
    agent.links(&[&ids[0], &ids[1][..11]]).await;
    agent.until("vm1 to be back", |slice| slice.ports[&port_id("vm1")].host.is_some()).await;
}

#[tokio::test]
async fn the_restart_of_an_agent_moves_no_gateway() {
    let cluster = Cluster::start_with(|config| config.liveness_grace = Duration::from_secs(60)).await;
    let world = vpc(&cluster);
    let gateway = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    gateway.ack(&[]).await;
    let mut watcher = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv02");
    watcher.until("one gateway", |slice| gateways(slice) == 1).await;
    drop(gateway);
    let hub = cluster.server.hub.clone();
    let id = host_of(&world, "ahv01").id;
    let deadline = Instant::now() + PATIENCE;
    while hub.presence(id).is_none_or(|presence| presence.connected) {
        assert!(Instant::now() < deadline, "the broken stream was not noticed");
        tokio::task::yield_now().await;
    }
    let gateway = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    gateway.ack(&[]).await;
    watcher.expect_silence().await;
}

#[tokio::test]
async fn a_gateway_that_stays_away_is_none_after_the_grace_period() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let gateway = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    gateway.ack(&[]).await;
    let mut watcher = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv02");
    watcher.until("one gateway", |slice| gateways(slice) == 1).await;
    let gone = Instant::now();
    drop(gateway);
    watcher.until("no gateway", |slice| gateways(slice) == 0).await;
    assert!(gone.elapsed() >= Duration::from_millis(300), "not before the grace period is over");
}

#[tokio::test]
async fn a_new_controller_believes_its_store_until_the_agents_are_back() {
    let data = tempfile::tempdir().unwrap();
    let with_data = |config: &mut controller::Config| config.data_dir = Some(data.path().to_owned());
    let cluster = Cluster::start_with(with_data).await;
    let world = vpc(&cluster);
    let gateway = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    gateway.ack(&[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv02");
    until(&world.store, "ahv01 to be live", |store| store.hosts.values().any(|host| host.live)).await;
    drop((world, gateway));
    cluster.server.shutdown().await;
    let grace = Duration::from_secs(60);
    let cluster = Cluster::start_with(|config| {
        with_data(config);
        config.liveness_grace = grace;
    })
    .await;
    let watcher = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    assert_eq!(gateways(&watcher.slice), 1, "{:#?}", watcher.slice);
}

#[tokio::test]
async fn a_host_that_was_deleted_enters_again() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.remove::<Host>(host_of(&world, "ahv01").id);
    assert_eq!(agent.end().await.code(), Code::NotFound);
    let agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    assert_eq!(agent.slice.hosts.len(), 1);
}

#[tokio::test]
async fn a_host_that_runs_low_gets_as_many_blocks_again() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("the first block", |slice| slice.blocks.len() == 1).await;
    for wanted in [2, 4, 8, 16, 32] {
        let request = proto::BlockRequest { router_id: router_id("blue").to_string() };
        agent.say(ToController::BlockRequest(request)).await;
        agent.until("more blocks", |slice| slice.blocks.len() == wanted).await;
    }
    let request = proto::BlockRequest { router_id: router_id("blue").to_string() };
    agent.say(ToController::BlockRequest(request)).await;
    agent.expect_silence().await;
}

/// Every part of an answer, by host; what a host did not tell is its reason.
async fn told(mut inquiry: Inquiry) -> BTreeMap<String, Result<String, String>> {
    let mut told = BTreeMap::new();
    while let Some((host, part)) = inquiry.next().await {
        let of = told.entry(host).or_insert(Ok(String::new()));
        match part {
            Part::Rows(rows) => of.as_mut().unwrap().push_str(str::from_utf8(&rows).unwrap()),
            Part::End(Ok(())) => {}
            Part::End(Err(reason)) => *of = Err(reason),
        }
    }
    told
}

const QUESTION: Question = Question::Ports;

#[tokio::test]
async fn hosts_are_asked_everywhere_and_who_does_not_answer_is_named() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut answers = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let _keeps_silent = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    world.host("ahv03", "10.0.0.3", &[]);
    answers.until("ahv03 to be told to nobody", |_| true).await;
    let hosts: Vec<HostId> = cluster.server.store.snapshot().hosts.keys().copied().collect();
    let asked = tokio::spawn(told(cluster.server.hub.ask(hosts, &QUESTION, Duration::from_millis(300))));
    let question = answers.question().await;
    assert_eq!(serde_json::from_slice::<Question>(&question.question).unwrap(), QUESTION);
    answers.answer(question.number, None, &["{\"n\":1}\n", "{\"n\":2}\n"]).await.unwrap();
    let want = [
        ("ahv01", Ok("{\"n\":1}\n{\"n\":2}\n")),
        ("ahv02", Err("it did not answer in time")),
        ("ahv03", Err("it is not connected")),
    ];
    let want = want.map(|(host, told)| (host.to_owned(), told.map(str::to_owned).map_err(str::to_owned)));
    assert_eq!(asked.await.unwrap(), BTreeMap::from(want));
}

#[tokio::test]
async fn an_answer_nobody_asked_for_or_of_another_host_is_refused() {
    let cluster = Cluster::start().await;
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let _other = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    let refused = agent.answer(4711, None, &["{}\n"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Cancelled, "nobody asked");
    let hosts: Vec<HostId> = cluster.server.store.snapshot().hosts.keys().copied().collect();
    let inquiry = cluster.server.hub.ask(hosts, &QUESTION, Duration::from_secs(5));
    let number = agent.question().await.number;
    let refused = agent.answer(number, Some("ahv02"), &["{}\n"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "in another's name");
    drop(inquiry);
    let refused = agent.answer(number, None, &["{}\n"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Cancelled, "the asker has left");
}

/// Memory: what a fast agent tells a slow reader waits at the agent.
#[tokio::test]
async fn a_slow_reader_slows_the_answer_down_and_nothing_else() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let hosts: Vec<HostId> = cluster.server.store.snapshot().hosts.keys().copied().collect();
    let mut inquiry = cluster.server.hub.ask(hosts, &QUESTION, Duration::from_secs(5));
    let number = agent.question().await.number;
    let chunk = "{}\n".repeat(16 << 10);
    let chunks = vec![chunk.as_str(); 200];
    let answer = tokio::spawn(agent.answer(number, None, &chunks));
    // The other stream of the same connection goes on while nobody reads this one.
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("vm1", |slice| slice.ports.len() == 1).await;
    // Nor does it take the room of what the agent says otherwise.
    let hosts: Vec<HostId> = cluster.server.store.snapshot().hosts.keys().copied().collect();
    let second = tokio::spawn(told(cluster.server.hub.ask(hosts, &QUESTION, Duration::from_secs(5))));
    let second_number = agent.question().await.number;
    agent.answer(second_number, None, &["{}\n"]).await.unwrap();
    assert_eq!(second.await.unwrap(), BTreeMap::from([("ahv01".to_owned(), Ok("{}\n".to_owned()))]));
    assert!(!answer.is_finished(), "10 MB have found a place somewhere");
    let mut read = 0;
    while let Some((_, Part::Rows(rows))) = inquiry.next().await {
        read += rows.len();
    }
    assert_eq!(read, 200 * chunk.len());
    answer.await.unwrap().unwrap();
}

/// Turnaround: from the change in the store to the agent's hands, TLS included. The bound is loose because tests
/// share the machine; what it takes on an idle one is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_with_the_agent_at_once() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("vm1", |slice| slice.ports.len() == 1).await;
    let mut took = Vec::new();
    for number in 1..=50_usize {
        let started = Instant::now();
        world.port(&format!("extra{number}"), "blue", &format!("192.168.10.{}", 20 + number), "");
        agent.until("the next port", |slice| slice.ports.len() == 1 + number).await;
        took.push(started.elapsed());
    }
    took.sort();
    println!("change to agent: median {:?}, worst {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_millis(50), "median {:?}", took[25]);
}

/// A forced full resync changes nothing: a controller that starts over the same store, with agents that come back
/// and ack what they have, writes only when they came.
#[tokio::test]
async fn a_restart_of_everything_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let with_data = |config: &mut controller::Config| {
        config.data_dir = Some(data.path().to_owned());
        config.liveness_grace = Duration::from_secs(60);
    };
    let cluster = Cluster::start_with(with_data).await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.floating_ip("172.22.7.100", "ext", "vm1", "blue");
    agent.until("all of it", |slice| slice.floating_ips.len() == 1 && slice.blocks.len() == 1).await;
    agent.ack(&[port_id("vm1")]).await;
    until(&world.store, "the ack", |store| is_programmed(store, "172.22.7.100")).await;
    agent.until("itself as a gateway", |slice| gateways(slice) == 1).await;
    let before = world.snapshot();
    drop(world);
    cluster.server.shutdown().await;

    let cluster = Cluster::start_with(with_data).await;
    let again = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    assert_eq!(Slice { revision: 0, ..again.slice.clone() }, Slice { revision: 0, ..agent.slice });
    let revision = cluster.server.store.snapshot().revision;
    for _ in 0..3 {
        again.ack(&[port_id("vm1")]).await;
        again.links(&[&port_id("vm1").to_string()]).await;
    }
    // Whoever acks after the others has been heard after them.
    let other = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    let after = cluster.server.store.snapshot();
    assert_eq!(after.revision, revision + 1, "the second host is the only change");
    assert_eq!(after.ports, before.ports);
    assert_eq!(after.floating_ips, before.floating_ips);
    assert_eq!(after.blocks, before.blocks);
    drop(other);
}

/// The same turnaround with a store on disk: one commit more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_change_is_with_the_agent_at_once() {
    let data = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_with(|config| config.data_dir = Some(data.path().to_owned())).await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("vm1", |slice| slice.ports.len() == 1).await;
    let mut took = Vec::new();
    let mut acked = Vec::new();
    for number in 1..=30_usize {
        let name = format!("extra{number}");
        let started = Instant::now();
        world.port(&name, "blue", &format!("192.168.10.{}", 20 + number), "ahv01");
        agent.until("the next port", |slice| slice.ports.len() == 1 + number).await;
        took.push(started.elapsed());
        let ports: Vec<_> = (1..=number).map(|number| port_id(&format!("extra{number}"))).collect();
        agent.ack(&ports).await;
        until(&world.store, "the ack", |store| programmed_on(store, &name).is_some()).await;
        acked.push(started.elapsed());
    }
    took.sort();
    acked.sort();
    println!("change to agent: median {:?}, worst {:?}", took[15], took[29]);
    println!("change to ACTIVE: median {:?}, worst {:?}", acked[15], acked[29]);
    assert!(acked[15] < Duration::from_millis(200), "median {:?}", acked[15]);
}

/// An agent that does not read for a while finds few deltas for many changes, and ends with all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_agent_gets_one_delta_for_many_changes() {
    const PORTS: usize = 1000;
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("vm1", |slice| slice.ports.len() == 1).await;
    agent.deltas.clear();
    for number in 0..PORTS {
        world.port(
            &format!("extra{number}"),
            "blue",
            &format!("192.168.{}.{}", 20 + number / 250, number % 250),
            "",
        );
    }
    agent.until("all ports", |slice| slice.ports.len() == 1 + PORTS).await;
    assert!(agent.deltas.len() < PORTS, "{} deltas", agent.deltas.len());
    println!("{PORTS} changes in {} deltas", agent.deltas.len());
}

/// More hosts than blocks: those that go without are served when a block is free and rested, and nobody spins
/// meanwhile.
#[tokio::test]
async fn a_host_without_a_block_gets_the_next_free_one() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    world.host("crowd", "10.9.0.1", &[]);
    let address = "172.22.7.27".parse().unwrap();
    let (external_network, router) = (network_id("ext"), router_id("blue"));
    world.port("vm0", "blue", "192.168.10.9", "crowd");
    for first_port in (1024..=64512).step_by(1024) {
        let host = host_id("crowd");
        let (granted_at_ms, retiring_since_ms) = (0, None);
        world.put(PortBlock {
            external_network,
            address,
            first_port,
            router,
            host,
            granted_at_ms,
            retiring_since_ms,
        });
    }
    until(&world.store, "all blocks to be taken", |store| store.blocks.len() == 63).await;
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("vm1", |slice| slice.ports.len() == 2).await;
    assert!(agent.slice.blocks.is_empty());
    // A second address has blocks that nobody had.
    world.change::<Port>(port_id("blue:ext"), |port| {
        let second = FixedIp { address: "172.22.7.28".parse().unwrap(), ..port.fixed_ips[0] };
        port.fixed_ips.push(second);
    });
    agent.until("a block", |slice| slice.blocks.len() == 1).await;
    assert_eq!(agent.slice.blocks.keys().next().unwrap().address.to_string(), "172.22.7.28");
    agent.expect_silence().await;
}

fn uses(agent: &common::agent::Agent, used: impl Fn(usize) -> u32) -> Vec<proto::BlockUse> {
    let blocks = agent.slice.blocks.iter().enumerate();
    let told = blocks.map(|(number, (id, block))| proto::BlockUse {
        block_id: id.to_string(),
        ports_used: used(number),
        retiring: block.retiring,
    });
    told.collect()
}

/// A host that has had too many blocks for long enough is told to give them up. It is not obeyed blindly: what is
/// not said to be empty, or was not retiring for a moment, stays.
#[tokio::test]
async fn blocks_that_are_not_needed_retire_and_come_back_on_demand() {
    let cluster = Cluster::start_with(|config| config.nat.block_hold = Duration::from_millis(200)).await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("the first block", |slice| slice.blocks.len() == 1).await;
    let request =
        || ToController::BlockRequest(proto::BlockRequest { router_id: router_id("blue").to_string() });
    for wanted in [2, 4] {
        agent.say(request()).await;
        agent.until("more blocks", |slice| slice.blocks.len() == wanted).await;
    }
    let status = |blocks| ToController::Status(proto::Status { blocks, ..Default::default() });
    let started = Instant::now();
    let retiring = |slice: &Slice| slice.blocks.values().filter(|block| block.retiring).count();
    let mut reports = tokio::time::interval(Duration::from_millis(50));
    while retiring(&agent.slice) == 0 {
        assert!(started.elapsed() < Duration::from_secs(5), "nothing retires");
        tokio::select! {
            () = agent.update() => {}
            _ = reports.tick() => agent.say(status(uses(&agent, |number| u32::from(number == 0)))).await,
        }
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    assert_eq!(retiring(&agent.slice), 3, "all but the one that is used");
    agent.say(status(uses(&agent, |_| 0))).await;
    agent.expect_silence().await;
    agent.say(request()).await;
    agent.until("one of them to go on", |slice| retiring(slice) == 2).await;
    assert_eq!(agent.slice.blocks.len(), 4);

    // Long after: what is empty is released, and rests.
    for id in agent.slice.blocks.iter().filter(|(_, block)| block.retiring).map(|(id, _)| *id) {
        world.change::<PortBlock>(id, |block| block.retiring_since_ms = Some(1));
    }
    let empty_one = |number| u32::from(number != 3 && number != 2);
    let told = uses(&agent, empty_one);
    let gone = told.iter().filter(|block| block.retiring && block.ports_used == 0).count();
    agent.say(status(told)).await;
    agent.until("what is empty to go", |slice| slice.blocks.len() == 4 - gone).await;
    assert_eq!(cluster.server.store.snapshot().resting_blocks.len(), gone);
}

/// The log has every block event before its host has the block, in files that a restart goes on with.
#[tokio::test]
async fn the_nat_log_follows_the_blocks_through_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("nat.log");
    let with_log = |config: &mut controller::Config| {
        config.data_dir = Some(data.path().join("store"));
        config.nat.log = Some(controller::nat_log::Settings {
            path: path.clone(),
            bytes_max: 1 << 20,
            files: 2,
            syslog: None,
        });
    };
    let events = || -> Vec<String> {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| format!("{} {}", line["event"], line["host_name"]).replace('"', "")).collect()
    };
    let cluster = Cluster::start_with(with_log).await;
    let world = vpc(&cluster);
    let mut agent = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    agent.until("a block", |slice| slice.blocks.len() == 1).await;
    assert_eq!(events(), ["checkpoint null", "granted ahv01"], "written before it was told");
    drop(world);
    cluster.server.shutdown().await;

    let cluster = Cluster::start_with(with_log).await;
    let world = World::over(cluster.server.store.clone());
    world.change::<Port>(port_id("vm1"), |port| port.binding_host.clear());
    until(&world.store, "the block to go", |store| store.blocks.is_empty()).await;
    cluster.server.shutdown().await;
    let want = ["checkpoint null", "granted ahv01", "checkpoint null", "held ahv01", "revoked ahv01"];
    assert_eq!(events(), want);
}

/// Goal: an address that a port announces is there for every host of the VPC and for the floating IP that stands for it,
/// until another one announces it or the pair goes; nobody gets one that no pair of its own names.
#[tokio::test]
async fn a_virtual_address_is_told_where_it_was_announced_last() {
    let cluster = Cluster::start().await;
    let world = vpc(&cluster);
    let mut first = cluster.agent("ahv01", "10.0.0.1", &["physnet1"]).await;
    let mut second = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    let shared: ipnet::IpNet = "192.168.10.100/32".parse().unwrap();
    for (name, at, host) in [("vm1", "192.168.10.11", "ahv01"), ("vm2", "192.168.10.12", "ahv02")] {
        world.port(name, "blue", at, host);
        world.change::<Port>(port_id(name), |port| {
            port.allowed_address_pairs = vec![AddressPair { mac: None, address: shared }];
        });
    }
    world.port("vip", "blue", "192.168.10.100", "");
    world.floating_ip("172.22.7.30", "ext", "vip", "blue");
    let mac = |name: &str| world.snapshot().get::<Port>(port_id(name)).unwrap().mac.to_string();
    let announce = |name: &str, address: &str| {
        let (port_id, address, mac) = (port_id(name).to_string(), address.to_owned(), mac(name));
        ToController::AddressAnnounced(proto::AddressAnnounced { port_id, address, mac })
    };
    let holder = |slice: &Slice| slice.virtual_addresses.values().next().map(|holder| holder.port);
    let floating =
        |slice: &Slice| slice.floating_ips.values().next().and_then(|floating_ip| floating_ip.host);
    for (name, host) in [("vm1", "ahv01"), ("vm2", "ahv02"), ("vm1", "ahv01")] {
        let own = host_of(&world, host).id;
        let teller = if host == "ahv01" { &first } else { &second };
        teller.say(announce(name, "192.168.10.100")).await;
        for agent in [&mut first, &mut second] {
            let there = |slice: &Slice| holder(slice) == Some(port_id(name)) && floating(slice) == Some(own);
            agent.until("the address to be there", there).await;
        }
    }
    // Of another host's port, of an address that no pair names, and of one that a VM or the router has.
    world.change::<Port>(port_id("vm1"), |port| {
        let address = "192.168.10.0/24".parse().unwrap();
        port.allowed_address_pairs.push(AddressPair { mac: None, address });
    });
    first.until("the prefix", |slice| slice.ports[&port_id("vm1")].allowed_pairs.len() == 2).await;
    for (name, address) in
        [("vm2", "192.168.10.100"), ("vm1", "10.9.9.9"), ("vm1", "192.168.10.12"), ("vm1", "192.168.10.1")]
    {
        first.say(announce(name, address)).await;
    }
    first.expect_silence().await;
    assert_eq!(cluster.server.store.snapshot().virtual_addresses.len(), 1);

    world.change::<Port>(port_id("vm1"), |port| port.allowed_address_pairs.clear());
    for agent in [&mut first, &mut second] {
        agent.until("the address to go", |slice| holder(slice).is_none() && floating(slice).is_none()).await;
    }
    assert!(cluster.server.store.snapshot().virtual_addresses.is_empty());
}
