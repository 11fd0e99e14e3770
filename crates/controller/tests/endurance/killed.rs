//! A controller that is killed while clients write: what it answered is there afterwards, and nothing by halves.
//!
//! `NANBOKU_KILLS` says how often; `make kills` does it a hundred times.

use crate::common::agent::{config, pki};
use crate::{seed, setting};
use controller::{Config, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::{Snapshot, Store};

/// Set for the process that is to be killed: where its files are.
const DIR: &str = "NANBOKU_KILLED_DIR";
const WRITERS: u64 = 8;
/// A kill comes at most so long after the writers began.
const LIFE_MAX: Duration = Duration::from_millis(150);
const START_MAX: Duration = Duration::from_secs(30);

/// Not a test by itself: the process that the test below kills.
#[tokio::test]
async fn controller_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    // Ends with whoever started it.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let config =
        Config { data_dir: Some(dir.join("data")), metrics_listen: None, ..config(&dir.join("pki")) };
    let server = Server::start(config).await.unwrap();
    std::fs::write(dir.join("new"), server.api_address.unwrap().to_string()).unwrap();
    std::fs::rename(dir.join("new"), dir.join("address")).unwrap();
    std::future::pending::<()>().await;
}

fn spawn(dir: &Path) -> Child {
    let _ = std::fs::remove_file(dir.join("address"));
    Command::new(std::env::current_exe().unwrap())
        .args(["killed::controller_process", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn address(dir: &Path) -> String {
    let deadline = Instant::now() + START_MAX;
    loop {
        if let Ok(address) = std::fs::read_to_string(dir.join("address")) {
            return address;
        }
        assert!(Instant::now() < deadline, "the controller does not start");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What one writer was told, and the one request that it was not.
#[derive(Default)]
struct Told {
    /// Path of a thing, and its name; none: it was deleted.
    things: BTreeMap<String, Option<String>>,
    /// Things that a request was about when the server died: any name it may have now, none for gone.
    unsure: BTreeMap<String, BTreeSet<Option<String>>>,
    /// Collection and name of those that were being made.
    begun: Vec<(&'static str, String)>,
}

/// The server is gone.
struct Gone;

struct Writer {
    http: Http<HttpConnector, Full<Bytes>>,
    root: String,
    rng: StdRng,
    world: World,
    told: Told,
    next: u32,
    tag: String,
}

#[derive(Clone)]
struct World {
    network: Value,
    external: Value,
}

impl Writer {
    /// # Errors
    /// No answer came.
    async fn call(&self, method: &str, path: &str, body: Value) -> Result<(u16, Value), Gone> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.root));
        let request = request.header("content-type", "application/json").body(Full::from(body)).unwrap();
        let response = self.http.request(request).await.map_err(|_| Gone)?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|_| Gone)?.to_bytes();
        assert!(status < 500, "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    fn name(&mut self) -> String {
        self.next += 1;
        format!("{}-{}", self.tag, self.next)
    }

    /// Until the server is gone.
    async fn run(mut self) -> Told {
        while self.step().await.is_ok() {}
        self.told
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let alive = self.told.things.iter().filter(|(_, name)| name.is_some()).map(|(path, _)| path.clone());
        let alive: Vec<String> = alive.collect();
        let chosen = alive.get(self.rng.random_range(0..alive.len().max(1))).cloned();
        match (self.rng.random_range(0..8), chosen) {
            (0 | 1, Some(path)) => self.delete(path).await,
            (2, Some(path)) => self.rename(path).await,
            (3, _) => self.create("floatingip", json!({"floating_network_id": self.world.external})).await,
            (4, _) => {
                let gateway = json!({"network_id": self.world.external});
                self.create("router", json!({"external_gateway_info": gateway})).await
            }
            (5, _) => self.create_two().await,
            _ => self.create("port", json!({"network_id": self.world.network})).await,
        }
    }

    async fn create(&mut self, kind: &'static str, mut attributes: Value) -> Result<(), Gone> {
        let name = self.name();
        // Floating IPs have no name.
        attributes["description"] = name.clone().into();
        self.told.begun.push((kind, name));
        let (status, body) = self.call("POST", &format!("/v2.0/{kind}s"), json!({kind: attributes})).await?;
        let (_, name) = self.told.begun.pop().unwrap();
        // Else there is no address left.
        if status == 201 {
            let id = body[kind]["id"].as_str().unwrap();
            self.told.things.insert(format!("/v2.0/{kind}s/{id}"), Some(name));
        }
        Ok(())
    }

    /// Both or none.
    async fn create_two(&mut self) -> Result<(), Gone> {
        let name = self.name();
        let port = json!({"network_id": self.world.network, "description": name});
        self.told.begun.push(("two", name));
        let (status, body) = self.call("POST", "/v2.0/ports", json!({"ports": [port, port]})).await?;
        let (_, name) = self.told.begun.pop().unwrap();
        if status == 201 {
            for port in body["ports"].as_array().unwrap() {
                let path = format!("/v2.0/ports/{}", port["id"].as_str().unwrap());
                self.told.things.insert(path, Some(name.clone()));
            }
        }
        Ok(())
    }

    async fn delete(&mut self, path: String) -> Result<(), Gone> {
        let former = self.told.things.remove(&path).unwrap();
        self.told.unsure.insert(path.clone(), BTreeSet::from([former, None]));
        let (status, body) = self.call("DELETE", &path, Value::Null).await?;
        assert_eq!(status, 204, "DELETE {path}: {body}");
        self.told.unsure.remove(&path);
        self.told.things.insert(path, None);
        Ok(())
    }

    async fn rename(&mut self, path: String) -> Result<(), Gone> {
        let kind = path.split('/').nth(2).unwrap().trim_end_matches('s').to_owned();
        let name = self.name();
        let former = self.told.things.remove(&path).unwrap();
        self.told.unsure.insert(path.clone(), BTreeSet::from([former, Some(name.clone())]));
        let (status, body) = self.call("PUT", &path, json!({kind: {"description": name}})).await?;
        assert_eq!(status, 200, "PUT {path}: {body}");
        self.told.unsure.remove(&path);
        self.told.things.insert(path, Some(name));
        Ok(())
    }
}

/// Path and description of everything that clients make.
fn present(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let ports = snapshot.ports.values().filter(|port| !port.is_infrastructure());
    let ports = ports.map(|port| (format!("/v2.0/ports/{}", port.id), &port.standard));
    let routers = snapshot.routers.values();
    let routers = routers.map(|router| (format!("/v2.0/routers/{}", router.id), &router.standard));
    let floating_ips = snapshot.floating_ips.values();
    let floating_ips = floating_ips.map(|own| (format!("/v2.0/floatingips/{}", own.id), &own.standard));
    let all = ports.chain(routers).chain(floating_ips);
    all.map(|(path, standard)| (path, standard.description.clone())).collect()
}

/// Compares the store with what was told; returns what is there now, known for sure again.
fn compare(snapshot: &Snapshot, told: &[Told]) -> BTreeMap<String, Option<String>> {
    assert_eq!(snapshot.audit(), Vec::<String>::new());
    let present = present(snapshot);
    let mut known = BTreeMap::new();
    for told in told {
        for (path, name) in &told.things {
            assert_eq!(present.get(path), name.as_ref(), "{path} was answered");
            known.insert(path.clone(), name.clone());
        }
        for (path, names) in &told.unsure {
            let name = present.get(path).cloned();
            assert!(names.contains(&name), "{path} is {name:?}, not one of {names:?}");
            known.insert(path.clone(), name);
        }
    }
    let begun: BTreeMap<&str, &str> =
        told.iter().flat_map(|told| &told.begun).map(|(kind, name)| (name.as_str(), *kind)).collect();
    for (path, name) in present.iter().filter(|(path, _)| !known.contains_key(*path)) {
        let kind = begun.get(name.as_str());
        assert!(kind.is_some(), "{path} ({name}) is there and nobody made it");
        let together = present.values().filter(|other| *other == name).count();
        assert_eq!(together, if kind == Some(&"two") { 2 } else { 1 }, "{path} is there by halves");
    }
    known.into_iter().filter(|(_, name)| name.is_some()).collect()
}

async fn prepare(root: &str) -> World {
    let writer = writer(root, 0, &World { network: Value::Null, external: Value::Null }, "setup");
    let make = async |kind: &str, attributes: Value| {
        let Ok((status, body)) =
            writer.call("POST", &format!("/v2.0/{kind}s"), json!({kind: attributes})).await
        else {
            panic!("the server is gone")
        };
        assert_eq!(status, 201, "{body}");
        body[kind]["id"].clone()
    };
    let network = make("network", json!({})).await;
    make("subnet", json!({"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/16"})).await;
    let external =
        json!({"router:external": true, "provider:network_type": "flat", "provider:physical_network": "p"});
    let external = make("network", external).await;
    make("subnet", json!({"network_id": external, "ip_version": 4, "cidr": "172.16.0.0/22"})).await;
    World { network, external }
}

fn writer(root: &str, seed: u64, world: &World, tag: &str) -> Writer {
    Writer {
        http: Http::builder(TokioExecutor::new()).build_http(),
        root: root.to_owned(),
        rng: StdRng::seed_from_u64(seed),
        world: world.clone(),
        told: Told::default(),
        next: 0,
        tag: tag.to_owned(),
    }
}

/// Kills what a start has done so far, now and then: recovery can be interrupted as well.
async fn killed_while_it_starts(dir: &Path, rng: &mut StdRng) {
    let mut process = spawn(dir);
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
    process.kill().unwrap();
    process.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_the_death_of_the_controller_at_any_moment() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    pki(&dir.path().join("pki"), &[]);
    let mut world = None;
    // Everything that must be there, dealt out to the writers of the next round.
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    let (mut revision, mut answered) = (0, 0);
    for round in 0..setting("NANBOKU_KILLS", 6) {
        if rng.random_ratio(1, 4) {
            killed_while_it_starts(dir.path(), &mut rng).await;
        }
        let mut process = spawn(dir.path());
        let root = address(dir.path()).await;
        if world.is_none() {
            world = Some(prepare(&root).await);
        }
        let mut writers: Vec<Writer> = (0..WRITERS)
            .map(|number| writer(&root, rng.random(), world.as_ref().unwrap(), &format!("{round}-{number}")))
            .collect();
        for (index, (path, name)) in std::mem::take(&mut known).into_iter().enumerate() {
            let own = index % writers.len();
            writers[own].told.things.insert(path, name);
        }
        let writers: Vec<_> = writers.into_iter().map(|writer| tokio::spawn(writer.run())).collect();
        tokio::time::sleep(rng.random_range(Duration::ZERO..LIFE_MAX)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        let mut told = Vec::new();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        let store = Store::open(Some(&dir.path().join("data/store.redb"))).unwrap();
        let snapshot = store.snapshot();
        assert!(snapshot.revision >= revision, "round {round}: {} < {revision}", snapshot.revision);
        revision = snapshot.revision;
        answered += told.iter().map(|told| told.things.len()).sum::<usize>();
        known = compare(&snapshot, &told);
        for (path, name) in present(&snapshot) {
            known.entry(path).or_insert(Some(name));
        }
    }
    assert!(answered > 0, "the writers never got an answer");
}
