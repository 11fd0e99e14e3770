//! Many clients at once never get the same address.

use crate::common::Api;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// 12 clients ask for 120 ports of a pool of 100: 100 get one each, all different, and 20 are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_clients_share_a_pool_without_a_double() {
    let api = Arc::new(Api::new());
    let network = api.create("network", json!({})).await;
    let attributes = json!({
        "network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.0/24",
        "allocation_pools": [{"start": "10.0.0.10", "end": "10.0.0.109"}],
    });
    api.create("subnet", attributes).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (api, id) = (Arc::clone(&api), network["id"].clone());
        clients.spawn(async move {
            let mut got = Vec::new();
            for _ in 0..10 {
                got.push(api.call("POST", "/v2.0/ports", json!({"port": {"network_id": id}})).await);
            }
            got
        });
    }
    let (mut addresses, mut macs, mut refused) = (BTreeSet::new(), BTreeSet::new(), 0);
    while let Some(answers) = clients.join_next().await {
        for answer in answers.unwrap() {
            if answer.status == 409 {
                assert_eq!(answer.body["NeutronError"]["type"], "IpAddressGenerationFailure");
                refused += 1;
                continue;
            }
            assert_eq!(answer.status, 201, "{}", answer.body);
            let port: &Value = &answer.body["port"];
            assert!(addresses.insert(port["fixed_ips"][0]["ip_address"].to_string()));
            assert!(macs.insert(port["mac_address"].to_string()));
        }
    }
    assert_eq!((addresses.len(), refused), (100, 20));
}
