//! Port blocks of a host that died.
//!
//! The configuration allows no host to be given up within 300 s, and a block rests for 120 s. Here the first is set
//! behind the configuration's back, and the rest is aged in the store; all else is as it is in service.

use crate::common::agent::{Agent, Cluster, until};
use crate::common::world::{World, network_id, router_id};
use crate::vpc;
use model::resource::{Network, RestingBlock};
use proto::agent_message::Message as ToController;
use std::collections::BTreeSet;
use std::time::Duration;
use store::Snapshot;

/// The blocks of the host of that name, by their first ports.
fn blocks(store: &Snapshot, host: &str) -> BTreeSet<u16> {
    let Some(host) = store.host_by_name(host) else { return BTreeSet::new() };
    store.blocks_of_host(host.id).map(|block| block.first_port).collect()
}

/// As if everything that rests had done so for long enough.
fn age_resting(world: &World) {
    let resting: Vec<RestingBlock> = world.snapshot().resting_blocks.values().map(|block| **block).collect();
    for block in resting {
        world.put(RestingBlock { since_ms: block.since_ms - 121_000, ..block });
    }
}

/// Asks for as many blocks again, and waits until there are `want`.
async fn grow(agent: &Agent, world: &World, want: usize) {
    let request = proto::BlockRequest { router_id: router_id("blue").to_string() };
    agent.say(ToController::BlockRequest(request)).await;
    until(&world.store, "more blocks", |store| blocks(store, "ahv02").len() == want).await;
}

#[tokio::test]
async fn a_dead_hosts_block_rests_and_then_goes_to_another_host_that_asks() {
    let cluster = Cluster::start_with(|config| {
        config.nat.block_reassign_after = Some(Duration::from_millis(300));
        config.liveness_grace = Duration::from_millis(100);
    })
    .await;
    let world = vpc(&cluster);
    // 16 blocks in all.
    world.change::<Network>(network_id("ext"), |network| {
        network.provider.as_mut().unwrap().block_size = 4096;
    });
    let dying = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let other = cluster.agent("ahv02", "10.0.0.2", &[]).await;
    world.port("vm1", "blue", "192.168.10.10", "ahv01");
    world.port("vm2", "blue", "192.168.10.11", "ahv02");
    until(&world.store, "a block each", |store| {
        blocks(store, "ahv01").len() == 1 && blocks(store, "ahv02").len() == 1
    })
    .await;
    let left = blocks(&world.snapshot(), "ahv01");

    drop(dying);
    until(&world.store, "the dead host's block to rest", |store| {
        blocks(store, "ahv01").is_empty() && store.resting_blocks.len() == 1
    })
    .await;
    for want in [2, 4, 8, 15] {
        grow(&other, &world, want).await;
    }
    assert!(blocks(&world.snapshot(), "ahv02").is_disjoint(&left), "what rests is nobody's");
    age_resting(&world);
    grow(&other, &world, 16).await;
    assert!(blocks(&world.snapshot(), "ahv02").is_superset(&left), "what has rested is anybody's");

    // Its host comes back to find all taken: it gets none of the other's, and no VM's port is moved.
    let back = cluster.agent("ahv01", "10.0.0.1", &[]).await;
    let own = back.welcome.host_id.parse().unwrap();
    assert!(back.slice.blocks.values().all(|block| block.host != own));
    assert_eq!(blocks(&world.snapshot(), "ahv02").len(), 16);
}
