//! What must be true before the agent touches anything. Each failure is one sentence.

use crate::config::Config;
use crate::{Error, connection};
use ipnet::Ipv4Net;
use netlink::Links;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;

/// Bits of `CapEff`, capability numbers as in capabilities(7).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// # Errors
/// A capability is missing.
pub(crate) fn privileges() -> Result<(), Error> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match effective(&status) {
        Some(set) if CAPABILITIES.iter().any(|(bit, _)| set >> bit & 1 == 0) => Err(Error::Privileges),
        // Without /proc nobody knows; the kernel will say.
        _ => Ok(()),
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// # Errors
/// A certificate or key cannot be read.
pub(crate) fn certificates(config: &Config) -> Result<(), Error> {
    for path in connection::certificate_files(config) {
        File::open(&path).map_err(|source| Error::Certificate { path, source })?;
    }
    Ok(())
}

/// Makes the state directory and locks it: two agents would write the same tables.
///
/// # Errors
/// It cannot be made, or another agent holds it.
pub(crate) fn lock(config: &Config) -> Result<nix::fcntl::Flock<File>, Error> {
    let path = &config.state_dir;
    let unusable = |source| Error::StateDirectory { path: path.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
    let file = File::create(path.join("lock")).map_err(unusable)?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::Locked(path.clone()))
}

/// Index of the NIC with the tunnel address, and the network of that address.
///
/// # Errors
/// No link has it, or not the one that was named.
pub(crate) async fn underlay(config: &Config, links: &Links) -> Result<(u32, Ipv4Net), Error> {
    let addresses = links.all_addresses().await?;
    let mut with_vtep = addresses.into_iter().filter(|(_, net)| net.addr() == config.vtep);
    let Some(name) = &config.underlay else {
        return with_vtep.next().ok_or(Error::NoVtep(config.vtep));
    };
    let named = links.get(name).await?.index;
    with_vtep
        .find(|(index, _)| *index == named)
        .ok_or_else(|| Error::UnderlayWithoutVtep { link: name.clone(), vtep: config.vtep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
