//! Builds the eBPF objects in `ebpf/` with the compiler that has a `core` for BPF, and hands their paths to
//! the crate. Everything about that build but the choice of the compiler stands in `ebpf/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The compiler's path, if it is not Debian's rustc-web.
const RUSTC_VARIABLE: &str = "NANBOKU_BPF_RUSTC";
const RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";
/// Compiler and linker must speak of the same LLVM.
const LLVM: &str = "22";
const LINKER_VERSION: &str = "0.10.3";
const OBJECTS: [&str; 3] = ["nanboku", "watching", "lab"];

fn main() {
    if let Err(sentence) = build() {
        println!("cargo::error={sentence}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let ebpf = root.join("ebpf");
    for input in ["src", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
        println!("cargo::rerun-if-changed={}", ebpf.join(input).display());
    }
    for input in ["packet", "pipeline"] {
        println!("cargo::rerun-if-changed={}", root.join("crates").join(input).display());
    }
    println!("cargo::rerun-if-env-changed={RUSTC_VARIABLE}");

    let rustc = env::var_os(RUSTC_VARIABLE).map_or_else(|| PathBuf::from(RUSTC), PathBuf::from);
    check_compiler(&rustc)?;
    check_linker()?;
    compile(&ebpf, &rustc)?;

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    for object in OBJECTS {
        let built = ebpf.join("target").join(TARGET).join("release").join(object);
        fs::copy(&built, out.join(object))
            .map_err(|error| format!("the eBPF object {} could not be copied: {error}", built.display()))?;
    }
    Ok(())
}

fn check_compiler(rustc: &Path) -> Result<(), String> {
    let version = output(Command::new(rustc).arg("-vV")).map_err(|error| {
        format!("{} is needed to build the eBPF programs ({error}); run scripts/setup", rustc.display())
    })?;
    if !version.lines().any(|line| line.starts_with(&format!("LLVM version: {LLVM}."))) {
        return Err(format!(
            "{} is not a rustc with LLVM {LLVM}, which bpf-linker {LINKER_VERSION} needs; run scripts/setup",
            rustc.display()
        ));
    }
    let libraries = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))
        .map_err(|error| {
            format!("{} does not know {TARGET} ({error}); run scripts/setup", rustc.display())
        })?;
    if !Path::new(libraries.trim()).is_dir() {
        return Err(format!("{} has no core library for {TARGET}; run scripts/setup", rustc.display()));
    }
    Ok(())
}

fn check_linker() -> Result<(), String> {
    let version = output(Command::new("bpf-linker").arg("--version")).map_err(|error| {
        format!("bpf-linker is needed to build the eBPF programs ({error}); run scripts/setup")
    })?;
    if version.split_whitespace().nth(1) != Some(LINKER_VERSION) {
        return Err(format!(
            "bpf-linker {LINKER_VERSION} is needed, found {:?}; run scripts/setup",
            version.trim()
        ));
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs cargo in `ebpf/` as a person would there: nothing of this build's settings is inherited.
fn compile(ebpf: &Path, rustc: &Path) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let about_cargo = text.starts_with("CARGO") && !is_fetch_setting(&text);
        let about_rustc = text.starts_with("RUST") && !text.starts_with("RUSTUP");
        if about_cargo
            || about_rustc
            || matches!(&*text, "TARGET" | "HOST" | "PROFILE" | "OPT_LEVEL" | "DEBUG")
        {
            command.env_remove(&name);
        }
    }
    command.current_dir(ebpf).env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--bins",
        "--target",
        TARGET,
        "--target-dir",
        "target",
    ]);
    let output = command.output().map_err(|error| format!("cargo could not be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    // The compiler's own messages, line by line, so that cargo shows them above the sentence.
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        println!("cargo::error={line}");
    }
    Err("the eBPF programs do not compile; see the messages above".into())
}

/// Where cargo finds packages is the same for both builds.
fn is_fetch_setting(name: &str) -> bool {
    ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
