//! Many clients at once want the same few addresses.

use crate::client::{Answer, Api, text};
use crate::seed;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use store::Store;

const CLIENTS: u64 = 64;
const ROUNDS: u32 = 4;

/// Addresses that somebody was told are its own.
#[derive(Default)]
struct Held(Mutex<BTreeSet<(String, String)>>);

impl Held {
    /// From the answer that says so until the request that gives it back.
    fn take(&self, network: &Value, address: &Value) {
        let key = (text(network).to_owned(), text(address).to_owned());
        assert!(self.0.lock().unwrap().insert(key.clone()), "given twice: {key:?}");
    }

    fn give_back(&self, network: &Value, address: &Value) {
        let key = (text(network).to_owned(), text(address).to_owned());
        assert!(self.0.lock().unwrap().remove(&key), "given back twice: {key:?}");
    }
}

struct World {
    api: Api,
    held: Held,
    network: Value,
    external: Value,
}

impl World {
    /// None: there was no address left, which is no fault.
    async fn create(&self, name: &str, attributes: Value) -> Option<Value> {
        let path = format!("/v2.0/{name}s");
        let answer = self.api.call("POST", &path, json!({name: attributes})).await;
        if answer.status == 201 {
            return Some(answer.body[name].clone());
        }
        refused_for_want_of_addresses(&path, &answer);
        None
    }

    async fn port(&self) -> Option<Value> {
        let port = self.create("port", json!({"network_id": self.network})).await?;
        self.held.take(&self.network, &port["fixed_ips"][0]["ip_address"]);
        Some(port)
    }

    async fn delete_port(&self, port: &Value) {
        self.held.give_back(&self.network, &port["fixed_ips"][0]["ip_address"]);
        self.api.delete("port", &port["id"]).await;
    }

    async fn floating_ip(&self, port: &Value) -> Option<Value> {
        let attributes = json!({"floating_network_id": self.external, "port_id": port["id"]});
        let floating_ip = self.create("floatingip", attributes).await?;
        self.held.take(&self.external, &floating_ip["floating_ip_address"]);
        Some(floating_ip)
    }

    /// With a leg on the network, and a gateway if there is an address left for it.
    async fn router(&self) {
        let gateway = json!({"external_gateway_info": {"network_id": self.external}});
        let router = self.create("router", gateway).await;
        let address =
            |router: &Value| router["external_gateway_info"]["external_fixed_ips"][0]["ip_address"].clone();
        let router = match router {
            Some(router) => {
                self.held.take(&self.external, &address(&router));
                router
            }
            None => self.api.create("router", json!({})).await,
        };
        if let Some(leg) = self.create("port", json!({"network_id": self.network})).await {
            self.held.take(&self.network, &leg["fixed_ips"][0]["ip_address"]);
            let interface = json!({"port_id": leg["id"]});
            self.api.act(&router["id"], "add_router_interface", interface.clone()).await;
            self.held.give_back(&self.network, &leg["fixed_ips"][0]["ip_address"]);
            self.api.act(&router["id"], "remove_router_interface", interface).await;
        }
        if !router["external_gateway_info"].is_null() {
            self.held.give_back(&self.external, &address(&router));
        }
        self.api.delete("router", &router["id"]).await;
    }

    async fn round(&self, rng: &mut StdRng) {
        let first = self.port().await;
        if rng.random() {
            self.router().await;
        }
        let Some(port) = first else { return };
        let floating_ip = self.floating_ip(&port).await;
        let Some(floating_ip) = floating_ip else { return self.delete_port(&port).await };
        // A port may go before its floating IP or after it.
        let port_first: bool = rng.random();
        if port_first {
            self.delete_port(&port).await;
        }
        self.held.give_back(&self.external, &floating_ip["floating_ip_address"]);
        self.api.delete("floatingip", &floating_ip["id"]).await;
        if !port_first {
            self.delete_port(&port).await;
        }
    }
}

fn refused_for_want_of_addresses(path: &str, answer: &Answer) {
    let kind = answer.body["NeutronError"]["type"].as_str().unwrap_or_default();
    let wanted = ["IpAddressGenerationFailure", "ExternalIpAddressExhausted"];
    assert!(wanted.contains(&kind), "POST {path}: {} {}", answer.status, answer.body);
}

/// Goal: no address is given twice, none is lost, nobody sees a fault of the server. Method: 64 clients create and
/// delete ports, routers and floating IPs on one subnet, and want more external addresses than there are; the store is
/// on disk, so that commits are shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_share_a_subnet_and_every_address_is_one_clients_or_free() {
    let seed = seed();
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(Some(&dir.path().join("store.redb"))).unwrap());
    let api = Api::over(Arc::clone(&store), None);
    let (network, subnet) = api.tenant("blue", "192.168.10.0/25").await;
    let (external, _) = api.external().await;
    api.router(&external, &subnet).await;
    let before = store.snapshot();
    let (network, external) = (network["id"].clone(), external["id"].clone());
    let world = Arc::new(World { api, held: Held::default(), network, external });
    let clients = (0..CLIENTS).map(|number| {
        let world = Arc::clone(&world);
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number));
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                world.round(&mut rng).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let after = store.snapshot();
    assert_eq!(after.audit(), Vec::<String>::new());
    assert!(world.held.0.lock().unwrap().is_empty());
    let left = |snapshot: &store::Snapshot| -> Vec<_> {
        let ports = snapshot.ports.keys().map(ToString::to_string);
        let routers = snapshot.routers.keys().map(ToString::to_string);
        ports.chain(routers).chain(snapshot.floating_ips.keys().map(ToString::to_string)).collect()
    };
    assert_eq!(left(&after), left(&before), "what was made is gone again");
    assert!(after.revision > before.revision + CLIENTS, "they did something: {}", after.revision);
    drop(world);
    drop(store);
    let reopened = Store::open(Some(&dir.path().join("store.redb"))).unwrap().snapshot();
    assert_eq!((reopened.revision, &reopened.ports), (after.revision, &after.ports));
}
