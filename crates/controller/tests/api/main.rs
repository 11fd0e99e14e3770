//! The API as a client sees it: requests through the router in memory, answers compared with what Neutron
//! gives.

mod addresses;
mod bad_input;
mod common;
mod coverage;
mod external_addresses;
mod floating_ips;
mod ipv6;
mod lists;
mod looking;
mod metering;
mod networks;
mod openapi;
mod policy;
mod port_forwardings;
mod ports;
mod protocol;
mod quotas;
mod restconf;
mod routers;
mod security_groups;
mod sharing;
mod status;
mod subnet_pools;
mod subnets;
mod trace;
