//! Subnet pools, and what subnets get from them.

use super::standard::check_precondition;
use super::{Service, Write, by_ids, find};
use api::resources::{SubnetCreate, SubnetPoolAction, SubnetPoolCreate, SubnetPoolUpdate, SubnetPoolView};
use api::{Caller, Error, Handles, Hints, Precondition, SubnetPoolActions, TagChange};
use ipnet::IpNet;
use model::ip::{IpVersion, number, overlap};
use model::quota::Counted;
use model::resource::Subnet;
use model::subnet_pool::{AddressScope, PrefixLens, SubnetPool};
use model::{NetworkId, SubnetPoolId};
use std::sync::Arc;
use store::Snapshot;
use store::allocate::free_prefix;

/// Quotas count IPv6 prefixes of this length.
const QUOTA_UNIT_V6: u8 = 64;

impl Handles<SubnetPool> for Service {
    fn list(&self, _caller: &Caller, hints: &Hints) -> Vec<SubnetPoolView> {
        let pools = by_ids::<SubnetPool>(&self.snapshot(), hints);
        pools.iter().map(|pool| SubnetPoolView::from(&**pool)).collect()
    }

    fn show(&self, _caller: &Caller, id: SubnetPoolId) -> Result<SubnetPoolView, Error> {
        Ok(SubnetPoolView::from(&*find::<SubnetPool>(&self.snapshot(), id)?))
    }

    fn create(&self, caller: &Caller, requests: Vec<SubnetPoolCreate>) -> Result<Vec<SubnetPoolView>, Error> {
        self.write(|write| {
            let create = |request| {
                let pool = create(write, caller, request)?;
                write.within_quota(Counted::SubnetPool, &pool.standard.project_id)?;
                Ok(SubnetPoolView::from(&pool))
            };
            requests.into_iter().map(create).collect()
        })
    }

    fn update(
        &self,
        caller: &Caller,
        id: SubnetPoolId,
        change: SubnetPoolUpdate,
        precondition: Precondition,
    ) -> Result<SubnetPoolView, Error> {
        self.write(|write| {
            let pool = update(write, caller, (id, precondition), change)?;
            Ok(SubnetPoolView::from(&pool))
        })
    }

    fn delete(&self, _caller: &Caller, id: SubnetPoolId, precondition: Precondition) -> Result<(), Error> {
        self.write(|write| {
            let pool = find::<SubnetPool>(write.tx, id)?;
            check_precondition(&pool.standard, precondition)?;
            if write.tx.subnets_of_pool(id).next().is_some() {
                return Err(Error::SubnetPoolDeleteError { reason: "Subnet pool has existing allocations" });
            }
            write.tx.remove::<SubnetPool>(id);
            Ok(())
        })
    }

    fn change_tags(
        &self,
        _caller: &Caller,
        id: SubnetPoolId,
        change: TagChange,
    ) -> Result<Vec<String>, Error> {
        self.change_tags_of::<SubnetPool>(id, change)
    }
}

impl SubnetPoolActions for Service {
    fn act(
        &self,
        caller: &Caller,
        id: SubnetPoolId,
        action: SubnetPoolAction,
    ) -> Result<SubnetPoolView, Error> {
        self.write(|write| {
            let mut pool = SubnetPool::clone(&*find::<SubnetPool>(write.tx, id)?);
            match action {
                SubnetPoolAction::AddPrefixes(new) => pool.prefixes.extend(new),
                SubnetPoolAction::RemovePrefixes(gone) => remove_prefixes(write.tx, &mut pool, &gone)?,
                SubnetPoolAction::Onboard(network) => onboard(write, &mut pool, network)?,
            }
            pool.prefixes = normalised(&pool.prefixes)?;
            check_scope(write.tx, caller, &pool)?;
            Ok(SubnetPoolView::from(&write.put_changed(pool)))
        })
    }
}

fn create(write: &mut Write<'_>, caller: &Caller, request: SubnetPoolCreate) -> Result<SubnetPool, Error> {
    let prefixes = normalised(&request.prefixes)?;
    let first = prefixes.first().copied().ok_or(Error::EmptySubnetPoolPrefixList {})?;
    let ip_version = IpVersion::of_net(first);
    let min = request.min_prefixlen.unwrap_or(match ip_version {
        IpVersion::V4 => 8,
        IpVersion::V6 => 64,
    });
    let max = request.max_prefixlen.unwrap_or(ip_version.bits());
    let prefix_lens = PrefixLens { min, default: request.default_prefixlen.unwrap_or(min), max };
    check_lens(prefix_lens, ip_version)?;
    let pool = SubnetPool {
        id: SubnetPoolId::random(),
        standard: write.standard(caller, request.standard),
        ip_version,
        prefixes,
        prefix_lens,
        default_quota: request.default_quota,
        shared: request.shared,
        is_default: request.is_default,
        address_scope: request.address_scope_id,
    };
    check_default(write.tx, &pool)?;
    check_scope(write.tx, caller, &pool)?;
    write.tx.put(pool.clone());
    Ok(pool)
}

fn update(
    write: &mut Write<'_>,
    caller: &Caller,
    (id, precondition): (SubnetPoolId, Precondition),
    change: SubnetPoolUpdate,
) -> Result<SubnetPool, Error> {
    let old = find::<SubnetPool>(write.tx, id)?;
    let mut pool = SubnetPool::clone(&old);
    check_precondition(&pool.standard, precondition)?;
    change.standard.apply(&mut pool.standard);
    if let Some(prefixes) = change.prefixes {
        pool.prefixes = normalised(&prefixes)?;
        let kept = |old: &IpNet| pool.prefixes.iter().any(|prefix| prefix.contains(old));
        if !old.prefixes.iter().all(kept) {
            let reason = "Existing prefixes must be a subset of the new prefixes".to_owned();
            return Err(Error::IllegalSubnetPoolPrefixUpdate { reason });
        }
    }
    let lens = &mut pool.prefix_lens;
    lens.min = change.min_prefixlen.unwrap_or(lens.min);
    lens.default = change.default_prefixlen.unwrap_or(lens.default);
    lens.max = change.max_prefixlen.unwrap_or(lens.max);
    check_lens(pool.prefix_lens, pool.ip_version)?;
    pool.default_quota = change.default_quota.unwrap_or(pool.default_quota);
    pool.is_default = change.is_default.unwrap_or(pool.is_default);
    pool.address_scope = change.address_scope_id.unwrap_or(pool.address_scope);
    check_default(write.tx, &pool)?;
    check_scope(write.tx, caller, &pool)?;
    Ok(write.put_changed(pool))
}

/// Disjoint, ascending, as few as there can be.
fn normalised(prefixes: &[IpNet]) -> Result<Vec<IpNet>, Error> {
    let first = prefixes.first().ok_or(Error::EmptySubnetPoolPrefixList {})?;
    let version = IpVersion::of_net(*first);
    if prefixes.iter().any(|prefix| IpVersion::of_net(*prefix) != version) {
        return Err(Error::PrefixVersionMismatch {});
    }
    if prefixes.iter().any(|prefix| prefix.prefix_len() == 0) {
        return Err(Error::invalid_input("0 is not allowed as CIDR prefix length"));
    }
    let mut prefixes = IpNet::aggregate(&prefixes.to_vec());
    prefixes.sort();
    Ok(prefixes)
}

fn check_lens(lens: PrefixLens, version: IpVersion) -> Result<(), Error> {
    let PrefixLens { min, default, max } = lens;
    let bounds = [
        ("max_prefixlen", max, "maximum", version.bits(), max > version.bits()),
        ("min_prefixlen", min, "max_prefixlen", max, min > max),
        ("default_prefixlen", default, "max_prefixlen", max, default > max),
        ("default_prefixlen", default, "min_prefixlen", min, default < min),
    ];
    match bounds.into_iter().find(|(.., is_wrong)| *is_wrong) {
        Some((what, length, bound, limit, _)) => {
            Err(Error::IllegalSubnetPoolPrefixBounds { what, length, bound, limit })
        }
        None => Ok(()),
    }
}

fn check_default(snapshot: &Snapshot, pool: &SubnetPool) -> Result<(), Error> {
    let other = default_pool(snapshot, pool.ip_version).filter(|other| other.id != pool.id);
    match other.filter(|_| pool.is_default) {
        Some(_) => Err(Error::invalid_input(format!(
            "A default subnetpool for IPv{} has already been set. Only one default may exist per IP family",
            pool.ip_version
        ))),
        None => Ok(()),
    }
}

fn default_pool(snapshot: &Snapshot, version: IpVersion) -> Option<&Arc<SubnetPool>> {
    snapshot.subnet_pools.values().find(|pool| pool.is_default && pool.ip_version == version)
}

/// The pool's scope is there for the caller, of the pool's version, and without another pool that has its addresses.
fn check_scope(snapshot: &Snapshot, caller: &Caller, pool: &SubnetPool) -> Result<(), Error> {
    let Some(id) = pool.address_scope else { return Ok(()) };
    let scope = find::<AddressScope>(snapshot, id)?;
    let is_owner = caller.is_admin() || scope.standard.project_id == pool.standard.project_id;
    if !(is_owner || scope.shared) {
        return Err(Error::IllegalSubnetPoolAssociationToAddressScope { pool: pool.id, scope: id });
    }
    if scope.ip_version != pool.ip_version {
        let version = scope.ip_version;
        return Err(Error::IllegalSubnetPoolIpVersionAssociationToAddressScope {
            pool: pool.id,
            scope: id,
            version,
        });
    }
    let others = snapshot.pools_of_scope(id).filter(|other| other.id != pool.id);
    let mut taken = others.flat_map(|other| &other.prefixes);
    if taken.any(|taken| pool.prefixes.iter().any(|prefix| overlap(*prefix, *taken))) {
        return Err(Error::AddressScopePrefixConflict {});
    }
    Ok(())
}

fn remove_prefixes(snapshot: &Snapshot, pool: &mut SubnetPool, gone: &[IpNet]) -> Result<(), Error> {
    for prefix in gone {
        if let Some(subnet) = snapshot.subnets_of_pool(pool.id).find(|subnet| overlap(subnet.cidr, *prefix)) {
            let reason = format!("{prefix} is in use by subnet {}", subnet.id);
            return Err(Error::IllegalSubnetPoolPrefixUpdate { reason });
        }
        pool.prefixes = pool.prefixes.iter().flat_map(|holder| without(*holder, *prefix)).collect();
    }
    Ok(())
}

/// What is left of `holder`: of every length between the two, the half that `gone` is not in.
fn without(holder: IpNet, gone: IpNet) -> Vec<IpNet> {
    if !overlap(holder, gone) {
        return vec![holder];
    }
    let version = IpVersion::of_net(holder);
    let sibling = |len: u8| {
        let place = IpNet::new(gone.addr(), len).ok()?.trunc();
        let bit = 1u128.checked_shl(u32::from(version.bits().checked_sub(len)?))?;
        IpNet::new(version.address(number(place.addr()) ^ bit)?, len).ok()
    };
    (holder.prefix_len() + 1..=gone.prefix_len()).filter_map(sibling).collect()
}

/// The network's subnets of the pool's version become the pool's.
fn onboard(write: &mut Write<'_>, pool: &mut SubnetPool, network: NetworkId) -> Result<(), Error> {
    let subnets: Vec<_> = write.tx.subnets_of_network(network).cloned().collect();
    for subnet in subnets.iter().filter(|subnet| subnet.ip_version() == pool.ip_version) {
        if subnet.pool.is_some() {
            let reason = format!("subnet {} is already from a subnet pool", subnet.id);
            return Err(Error::IllegalSubnetPoolPrefixUpdate { reason });
        }
        if write.tx.subnets_of_pool(pool.id).any(|other| overlap(other.cidr, subnet.cidr)) {
            let reason = format!("{} is in use by another subnet of the pool", subnet.cidr);
            return Err(Error::IllegalSubnetPoolPrefixUpdate { reason });
        }
        pool.prefixes.push(subnet.cidr);
        write.put_changed(Subnet { pool: Some(pool.id), ..Subnet::clone(subnet) });
    }
    Ok(())
}

/// The pool that a new subnet asks for, if it asks for one and may have it.
///
/// # Errors
/// `SubnetPoolNotFound`, or no pool is the default.
pub(super) fn asked_for(
    snapshot: &Snapshot,
    caller: &Caller,
    request: &SubnetCreate,
) -> Result<Option<Arc<SubnetPool>>, Error> {
    let pool = match (request.subnetpool_id, request.use_default_subnetpool) {
        (Some(_), true) => {
            return Err(bad_request("subnetpool_id and use_default_subnetpool cannot both be specified"));
        }
        (Some(id), false) => find::<SubnetPool>(snapshot, id)?,
        (None, true) => {
            let version = request.ip_version;
            let none = || bad_request(&format!("No default subnetpool found for IPv{version}"));
            default_pool(snapshot, version).cloned().ok_or_else(none)?
        }
        (None, false) => return Ok(None),
    };
    let sees = caller.is_admin() || pool.shared || caller.owns(&pool.standard.project_id);
    if sees { Ok(Some(pool)) } else { Err(Error::SubnetPoolNotFound { id: pool.id.to_string() }) }
}

/// The prefix for a new subnet of `project_id`: the one asked for, or a free one of the length asked for.
///
/// # Errors
/// What Neutron answers.
pub(super) fn cut(
    snapshot: &Snapshot,
    pool: &SubnetPool,
    request: &SubnetCreate,
    project_id: &str,
) -> Result<IpNet, Error> {
    if pool.ip_version != request.ip_version {
        let (asked, own) = (request.ip_version, pool.ip_version);
        return Err(bad_request(&format!("Cannot allocate IPv{asked} subnet from IPv{own} subnet pool")));
    }
    if request.cidr.is_some() && request.prefixlen.is_some() {
        return Err(bad_request("cidr and prefixlen must not be supplied together"));
    }
    if request.cidr.is_none() && request.allocation_pools.is_some() {
        return Err(bad_request("allocation_pools allowed only for specific subnet requests."));
    }
    let own_len = request.cidr.map(|cidr| cidr.prefix_len());
    let length = own_len.or(request.prefixlen).unwrap_or(pool.prefix_lens.default);
    let PrefixLens { min, max, .. } = pool.prefix_lens;
    if length < min {
        return Err(Error::MinPrefixSubnetAllocationError { length, limit: min });
    }
    if length > max {
        return Err(Error::MaxPrefixSubnetAllocationError { length, limit: max });
    }
    check_quota(snapshot, pool, project_id, length)?;
    let taken: Vec<IpNet> = snapshot.subnets_of_pool(pool.id).map(|subnet| subnet.cidr).collect();
    match request.cidr {
        Some(cidr) => {
            let is_inside = pool.prefixes.iter().any(|prefix| prefix.contains(&cidr));
            let is_free = taken.iter().all(|other| !overlap(*other, cidr));
            if is_inside && is_free {
                Ok(cidr)
            } else {
                Err(not_available("Cannot allocate requested subnet"))
            }
        }
        None => free_prefix(&pool.prefixes, &taken, length)
            .map_err(|_| not_available("Insufficient prefix space to allocate subnet size")),
    }
}

fn not_available(what: &str) -> Error {
    Error::SubnetAllocationError { reason: format!("{what} from the available set of prefixes") }
}

fn check_quota(snapshot: &Snapshot, pool: &SubnetPool, project_id: &str, length: u8) -> Result<(), Error> {
    let Some(quota) = pool.default_quota else { return Ok(()) };
    let unit = match pool.ip_version {
        IpVersion::V4 => IpVersion::V4.bits(),
        IpVersion::V6 => QUOTA_UNIT_V6,
    };
    let units = |length: u8| 1u128 << unit.saturating_sub(length);
    let own = snapshot.subnets_of_pool(pool.id).filter(|subnet| subnet.standard.project_id == project_id);
    let used: u128 = own.map(|subnet| units(subnet.cidr.prefix_len())).sum();
    if used + units(length) > u128::from(quota) { Err(Error::SubnetPoolQuotaExceeded {}) } else { Ok(()) }
}

fn bad_request(reason: &str) -> Error {
    Error::BadRequest { resource: "subnets", reason: reason.to_owned() }
}
