//! A controller of the benchmark's own: a process on one core, with a store on disk.

use super::client::{Client, Endpoint, trusting};
use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The core that controllers run on; everything else is elsewhere.
const CORE: &str = "0";
const PASSWORD: &str = "benchmark";
const START_MAX: Duration = Duration::from_secs(60);

/// How callers reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// HTTP without authentication.
    Plain,
    /// TLS and tokens of the built-in identity service.
    Tls,
}

impl Access {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Tls];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
        }
    }
}

/// The files of one controller.
pub(crate) struct Site {
    nanboku: PathBuf,
    dir: PathBuf,
}

/// It runs until this is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) endpoint: Endpoint,
    /// From its start to its first answer.
    pub(crate) started: Duration,
}

impl Site {
    /// `dir` must not exist.
    pub(crate) fn new(nanboku: &Path, dir: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&dir)?;
        let site = Self { nanboku: nanboku.to_owned(), dir };
        let pki = site.path("pki");
        site.run(&["ca", "init", "--dir", &pki])?;
        site.run(&["ca", "issue", "controller", "--dir", &pki])?;
        fs::write(site.dir.join("password"), PASSWORD)?;
        Ok(site)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.nanboku).args(args).output()?;
        ensure!(output.status.success(), "nanboku {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn flags(&self, access: Access, address: SocketAddr) -> Vec<String> {
        let mut flags = vec![
            "--api-listen".to_owned(),
            address.to_string(),
            "--agents-listen".to_owned(),
            "127.0.0.1:0".to_owned(),
            "--data-dir".to_owned(),
            self.path("data"),
            "--certificates".to_owned(),
            self.path("pki"),
        ];
        if access == Access::Tls {
            let (chain, key) = (self.path("pki/controller.pem"), self.path("pki/controller.key"));
            let tls = ["--auth", "builtin", "--api-certificate", &chain, "--api-key", &key];
            flags.extend(tls.map(str::to_owned));
        }
        flags
    }

    /// Makes the administrator that callers log in as.
    pub(crate) fn bootstrap(&self) -> anyhow::Result<()> {
        let flags = self.flags(Access::Tls, free_address()?);
        let (clouds, password) = (self.path("clouds.yaml"), self.path("password"));
        let mut args = vec!["server"];
        args.extend(flags.iter().map(String::as_str));
        args.extend(["bootstrap", "--clouds-yaml", &clouds, "--password-file", &password]);
        self.run(&args)
    }

    pub(crate) fn start(&self, access: Access) -> anyhow::Result<Server> {
        let address = free_address()?;
        let tls = match access {
            Access::Plain => None,
            Access::Tls => Some(trusting(&self.dir.join("pki/ca.pem"))?),
        };
        let endpoint = Endpoint { address, tls, token: None };
        let begun = Instant::now();
        let process = Command::new("taskset")
            .args(["-c", CORE])
            .arg(&self.nanboku)
            .arg("server")
            .args(self.flags(access, address))
            .stderr(File::create(self.dir.join("log"))?)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run taskset")?;
        let mut server = Server { process, endpoint, started: Duration::ZERO };
        server.await_answer()?;
        server.started = begun.elapsed();
        if access == Access::Tls {
            server.endpoint.token = Some(server.log_in("admin", PASSWORD, "admin")?);
        }
        Ok(server)
    }

    /// Median time to make 4 KiB durable on the disk of the store, in milliseconds; one value per round.
    pub(crate) fn fsync_ms(&self, rounds: u32) -> anyhow::Result<Vec<f64>> {
        use std::os::unix::fs::FileExt as _;
        let file = File::create(self.dir.join("fsync"))?;
        file.set_len(1 << 20)?;
        (0..rounds)
            .map(|round| {
                let begun = Instant::now();
                file.write_all_at(&[round.to_le_bytes()[0]; 4096], u64::from(round % 256) * 4096)?;
                file.sync_data()?;
                Ok(begun.elapsed().as_secs_f64() * 1000.0)
            })
            .collect()
    }
}

impl Server {
    fn await_answer(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_MAX;
        loop {
            match Client::connect(&self.endpoint).and_then(|mut client| client.call("GET", "/v2.0", "")) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error.context("it does not start")),
                Err(_) => {}
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the controller ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A token for that project.
    pub(crate) fn log_in(&self, user: &str, password: &str, project: &str) -> anyhow::Result<String> {
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": domain, "password": password}},
            },
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let mut client = Client::connect(&self.endpoint)?;
        let answer = client.call("POST", "/identity/v3/auth/tokens", &body.to_string())?;
        answer.token.context("a log in without a token")
    }

    /// Resident memory, in megabytes of 10^6 bytes.
    pub(crate) fn rss_mb(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// SIGTERM; returns when it is gone.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        use nix::sys::signal::{Signal, kill};
        kill(nix::unistd::Pid::from_raw(self.process.id().try_into()?), Signal::SIGTERM)?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    /// SIGKILL: what it answered is on disk.
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
