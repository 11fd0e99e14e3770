//! Unmodified clients: a session of the real `openstack` command line and SDK, with passwords, against a real server.
//!
//! And our own command line, which logs in with the same file. The others come from PyPI, so a machine that cannot reach
//! it cannot run this: `scripts/setup --test` installs them where it can. What is done with them is in `openstack/`.

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

/// The Python that has the real clients, if they are installed.
fn python() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/openstack-client");
    let found = Command::new(script).arg("--installed").output().unwrap();
    if !found.status.success() {
        eprintln!("skipped: the OpenStack clients are not installed; scripts/setup --test does it");
        return None;
    }
    Some(String::from_utf8(found.stdout).unwrap().trim().to_owned())
}

/// Runs a script of `openstack/` against a server of its own; it ends with `done`.
fn passes(script: &str) {
    let Some(python) = python() else { return };
    let server = Server::start();
    let session = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openstack").join(script))
        .env("OS_CLIENT_CONFIG_FILE", server.dir.path().join("clouds.yaml"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", server.dir.path())
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&session.stdout), String::from_utf8_lossy(&session.stderr));
    assert!(session.status.success() && said.ends_with("done\n"), "{}\n{said}", server.log());
}

#[test]
fn two_projects_work_side_by_side_with_the_real_command_line() {
    passes("session.py");
}

#[test]
fn openstacksdk_finds_everything_it_knows_of_a_network() {
    passes("sdk.py");
}

#[test]
fn every_refusal_has_the_status_and_type_that_clients_count_on() {
    passes("refusals.py");
}

#[test]
fn every_view_has_neutrons_attributes_with_their_types() {
    passes("views.py");
}

#[test]
fn what_gophercloud_and_terraform_send_is_answered_as_they_need_it() {
    passes("terraform.py");
}

/// Goal: a user with nothing but `openstack` builds scenario `dvr`. Method: the commands of docs/walk-through.md, as they
/// stand there, against a bare lab; it ends with `lab check`. `NANBOKU_BLESS=1` writes what they print into the document.
#[test]
fn root_the_walk_through_builds_dvr() {
    let Some(python) = python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = root.join("../../docs/walk-through.md");
    let lab = Lab(format!("t{}-walk", std::process::id()));
    let walk = Command::new(python)
        .arg(root.join("tests/openstack/walk_through.py"))
        .args([document.as_os_str(), NANBOKU.as_ref(), lab.0.as_ref()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walk.stdout);
    let failed = String::from_utf8_lossy(&walk.stderr);
    assert!(walk.status.success() && said.contains(" checks, 0 failed\n"), "{said}\n{failed}");
    if std::env::var_os("NANBOKU_BLESS").is_some() {
        std::fs::write(&document, said.as_bytes()).unwrap();
    }
}

/// Taken down when the test ends, however it ends.
struct Lab(String);

impl Drop for Lab {
    fn drop(&mut self) {
        let _down = Command::new(NANBOKU).args(["lab", "down", &self.0]).output();
    }
}

/// `nanboku` with an environment of its own, without any lab or endpoint of whoever runs the tests.
fn nanboku(server: &Server, variables: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let mut command = Command::new(NANBOKU);
    command.env_clear().env("HOME", server.dir.path()).current_dir(server.dir.path());
    let Output { status, stdout, stderr } =
        command.envs(variables.iter().copied()).args(args).output().unwrap();
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// The value of a key that the file has once.
fn line_of<'a>(clouds: &'a str, key: &str) -> &'a str {
    let line = clouds.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {key} in {clouds}")).trim_matches('"')
}

#[test]
fn the_own_command_line_logs_in_with_clouds_yaml_and_with_variables() {
    let server = Server::start();
    let clouds = std::fs::read_to_string(server.dir.path().join("clouds.yaml")).unwrap();
    let authority = server.dir.path().join("pki/ca.pem").display().to_string();
    let (url, password) = (line_of(&clouds, "auth_url"), line_of(&clouds, "password"));
    let cloud = ["--os-cloud", "nanboku", "--os-cacert", &authority];
    let with = |args: &[&str]| nanboku(&server, &[], &[&cloud[..], args].concat());
    let (ok, said) = with(&["network", "create", "blue"]);
    assert!(ok, "{said}");
    let (ok, said) = with(&["network", "list", "-o", "value", "-c", "name"]);
    assert!(ok && said.contains("blue"), "{said}");
    assert!(with(&["status"]).0, "administrators' views too");

    let admin = [
        ("OS_AUTH_URL", url),
        ("OS_USERNAME", "admin"),
        ("OS_PASSWORD", password),
        ("OS_PROJECT_NAME", "admin"),
        ("OS_CACERT", &authority),
    ];
    let (ok, said) = nanboku(&server, &admin, &["network", "list"]);
    assert!(ok && said.contains("blue"), "{said}");
    let (ok, said) = nanboku(&server, &admin[..4], &["--insecure", "network", "list"]);
    assert!(ok && said.contains("blue"), "{said}");
    let refused = |variables: &[(&str, &str)], args: &[&str], want: &str| {
        let (ok, said) = nanboku(&server, variables, args);
        assert!(!ok && said.contains(want) && !said.contains(password), "'{want}' in {said}");
    };
    let list = ["network", "list"];
    refused(&admin[..4], &list, "--os-cacert");
    refused(&[&admin[..2], &admin[3..]].concat(), &list, "OS_PASSWORD");
    let wrong = [&admin[..2], &[("OS_PASSWORD", "wrong")], &admin[3..]].concat();
    refused(&wrong, &list, "refuses the credentials");
    refused(&[], &["--os-cloud", "red", "network", "list"], "has no cloud 'red' (it has: nanboku)");
    let root = url.split("/identity").next().unwrap();
    refused(&[], &["--endpoint", root, "--os-cacert", &authority, "network", "list"], "401");
}
