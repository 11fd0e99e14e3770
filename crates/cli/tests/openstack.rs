//! Unmodified clients: a session of the real `openstack` command line and SDK, with passwords, against a real server.
//!
//! They come from PyPI, so a machine that cannot reach it cannot run this: `scripts/setup --test` installs them where it
//! can. What the session does is in `openstack/session.py`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NANBOKU: &str = env!("CARGO_BIN_EXE_nanboku");
const START: Duration = Duration::from_secs(20);

/// A controller with the built-in identity service and one administrator; ends with the test.
struct Server {
    process: Child,
    dir: TempDir,
}

fn ok(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {text}");
    text
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let pki = path("pki");
        ok(Command::new(NANBOKU).args(["ca", "init", "--dir", &pki]));
        ok(Command::new(NANBOKU).args(["ca", "issue", "controller", "--san", "127.0.0.1", "--dir", &pki]));
        // Free a moment ago; the bootstrap has to know it before the server runs.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "certificates = {pki:?}\ndata_dir = {:?}\nauth = 'builtin'\napi_listen = '{address}'\n\
             agents_listen = '127.0.0.1:0'\napi_certificate = '{pki}/controller.pem'\napi_key = '{pki}/controller.key'\n",
            path("data"),
        );
        std::fs::write(path("server.toml"), config).unwrap();
        let server = ["server", "--config", &path("server.toml")].map(str::to_owned);
        let said = ok(Command::new(NANBOKU).args(&server).args([
            "bootstrap",
            "--clouds-yaml",
            &path("clouds.yaml"),
        ]));
        assert!(said.contains("--os-cloud nanboku token issue"), "{said}");
        let log = std::fs::File::create(path("server.log")).unwrap();
        let process = Command::new(NANBOKU).args(&server).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = Self { process, dir };
        let deadline = Instant::now() + START;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the server does not answer: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

#[test]
fn two_projects_work_side_by_side_with_the_real_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python =
        Command::new(root.join("../../scripts/openstack-client")).arg("--installed").output().unwrap();
    if !python.status.success() {
        eprintln!("skipped: the OpenStack clients are not installed; scripts/setup --test does it");
        return;
    }
    let python = String::from_utf8(python.stdout).unwrap();
    let server = Server::start();
    let session = Command::new(python.trim())
        .arg(root.join("tests/openstack/session.py"))
        .env("OS_CLIENT_CONFIG_FILE", server.dir.path().join("clouds.yaml"))
        .env("HOME", server.dir.path())
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&session.stdout), String::from_utf8_lossy(&session.stderr));
    assert!(session.status.success() && said.contains("\ndone\n"), "{}\n{said}", server.log());
}
