//! Our packages, as cargo sees them: the workspace's and those of `ebpf/` and `fuzz/`.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    /// Root file of every target: libraries, binaries, tests, benches, build scripts.
    pub(super) roots: Vec<PathBuf>,
    /// Names of the other packages of ours in its normal and build dependencies.
    pub(super) uses: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<RawTarget>,
    dependencies: Vec<RawDependency>,
}

#[derive(Deserialize)]
struct RawTarget {
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
    /// None: a normal dependency; else "dev" or "build".
    kind: Option<String>,
    /// Set for ours only.
    path: Option<PathBuf>,
}

pub(super) fn load(root: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for manifest in ["Cargo.toml", "ebpf/Cargo.toml", "fuzz/Cargo.toml"] {
        let manifest = root.join(manifest);
        if manifest.exists() {
            packages.extend(parse(&metadata(&manifest)?)?);
        }
    }
    Ok(packages)
}

fn metadata(manifest: &Path) -> Result<Vec<u8>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata for {}: {}", manifest.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

fn parse(json: &[u8]) -> Result<Vec<Package>> {
    let metadata: Metadata = serde_json::from_slice(json).context("read cargo's metadata")?;
    let mut packages = Vec::new();
    for raw in metadata.packages {
        let directory = raw.manifest_path.parent().context("a manifest lies in no directory")?.to_owned();
        let ours = raw
            .dependencies
            .into_iter()
            .filter(|dependency| dependency.path.is_some() && dependency.kind.as_deref() != Some("dev"));
        packages.push(Package {
            name: raw.name,
            directory,
            roots: raw.targets.into_iter().map(|target| target.src_path).collect(),
            uses: ours.map(|dependency| dependency.name).collect(),
        });
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keeps_what_the_rules_need() {
        let json = br#"{"packages": [{"name": "agent", "manifest_path": "/w/crates/agent/Cargo.toml",
            "targets": [{"src_path": "/w/crates/agent/src/lib.rs"}], "dependencies": [
            {"name": "model", "kind": null, "path": "/w/crates/model"},
            {"name": "testkit", "kind": "dev", "path": "/w/crates/testkit"},
            {"name": "serde", "kind": null}]}]}"#;
        let packages = parse(json).unwrap();
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].directory, Path::new("/w/crates/agent"));
        assert_eq!(packages[0].roots, [Path::new("/w/crates/agent/src/lib.rs")]);
        assert_eq!(packages[0].uses, ["model"]);
    }
}
