//! Where a network's frames are: the overlay, or a physical network with or without a VLAN.

use super::Settings;
use api::Error;
use api::resources::{NetworkCreate, NetworkType};
use model::Vni;
use model::resource::Provider;
use store::Snapshot;
use store::allocate::free_vni;

const BLOCK_SIZE: u16 = 1024;
const VLAN_LAST: i64 = 4094;

/// A checked place for a new network.
pub(super) struct Place {
    pub(super) provider: Option<Provider>,
    pub(super) vni: Vni,
}

pub(super) fn place(
    snapshot: &Snapshot,
    settings: &Settings,
    request: &NetworkCreate,
) -> Result<Place, Error> {
    let vlan = match request.network_type {
        None => {
            let given = request.physical_network.is_some() || request.segmentation_id.is_some();
            if given {
                return Err(Error::invalid_input("network_type required"));
            }
            return overlay(snapshot, settings, request);
        }
        Some(NetworkType::Geneve | NetworkType::Vxlan) => return overlay(snapshot, settings, request),
        Some(NetworkType::Flat) if request.segmentation_id.is_some() => {
            return Err(Error::invalid_input("segmentation_id specified for flat network"));
        }
        Some(NetworkType::Flat) => None,
        Some(NetworkType::Vlan) => Some(vlan(request)?),
    };
    let physical_network = physical_network(request)?;
    if !request.external {
        return Err(only_external());
    }
    check_free(snapshot, &physical_network, vlan)?;
    let provider = Provider {
        physical_network,
        vlan,
        egress: request.egress.unwrap_or_default(),
        block_size: request.block_size.unwrap_or(BLOCK_SIZE),
    };
    let vni = free_vni(snapshot, settings.vnis).map_err(|_| Error::NoNetworkAvailable {})?;
    Ok(Place { provider: Some(provider), vni })
}

pub(super) fn only_external() -> Error {
    Error::invalid_input("networks of type flat and vlan must be router:external")
}

/// The attribute means nothing without a physical network.
pub(super) fn not_external(attribute: &str) -> Error {
    Error::invalid_input(format!("{attribute} is only for networks of type flat and vlan"))
}

fn overlay(snapshot: &Snapshot, settings: &Settings, request: &NetworkCreate) -> Result<Place, Error> {
    if let Some(network_type) = request.network_type.filter(|asked| *asked != settings.overlay) {
        let text = format!("{network_type:?}").to_lowercase();
        return Err(Error::invalid_input(format!("network_type value '{text}' not supported")));
    }
    if request.physical_network.is_some() {
        return Err(Error::invalid_input("provider:physical_network specified for an overlay network"));
    }
    if request.egress.is_some() {
        return Err(not_external("nanboku:egress"));
    }
    if request.block_size.is_some() {
        return Err(not_external("nanboku:block_size"));
    }
    let vni = match request.segmentation_id {
        None => free_vni(snapshot, settings.vnis).map_err(|_| Error::NoNetworkAvailable {})?,
        Some(number) => {
            let vni = u32::try_from(number).ok().and_then(|number| Vni::new(number).ok());
            let range = format!("segmentation_id out of range (1 through {})", Vni::MAX);
            let vni = vni.ok_or_else(|| Error::invalid_input(range))?;
            if snapshot.vni_used(vni) {
                return Err(Error::TunnelIdInUse { tunnel: vni.get() });
            }
            vni
        }
    };
    Ok(Place { provider: None, vni })
}

fn vlan(request: &NetworkCreate) -> Result<u16, Error> {
    let number = request
        .segmentation_id
        .ok_or_else(|| Error::invalid_input("segmentation_id required for vlan provider network"))?;
    match u16::try_from(number) {
        Ok(vlan) if (1..=VLAN_LAST).contains(&number) => Ok(vlan),
        _ => Err(Error::invalid_input(format!("segmentation_id out of range (1 through {VLAN_LAST})"))),
    }
}

fn physical_network(request: &NetworkCreate) -> Result<String, Error> {
    let name = request.physical_network.clone().filter(|name| !name.is_empty());
    name.ok_or_else(|| Error::invalid_input("physical_network required for provider network"))
}

fn check_free(snapshot: &Snapshot, physical_network: &str, vlan: Option<u16>) -> Result<(), Error> {
    let mut providers = snapshot.networks.values().filter_map(|network| network.provider.as_ref());
    let used = providers.any(|own| own.physical_network == physical_network && own.vlan == vlan);
    let physical_network = physical_network.to_owned();
    match (used, vlan) {
        (false, _) => Ok(()),
        (true, None) => Err(Error::FlatNetworkInUse { physical_network }),
        (true, Some(vlan)) => Err(Error::VlanIdInUse { vlan, physical_network }),
    }
}
