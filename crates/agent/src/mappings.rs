//! Mappings as rows: which internal endpoint has which port of a SNAT address.

use crate::observe::{Rows, Unanswered};
use crate::scene::Scene;
use model::question::{MappingFilter, MappingRow};
use pipeline::nat::{Mapping, MappingKey};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::ControlFlow;

/// Tells of those that are wanted. One of a router that is no longer here is about to end, and not told.
pub(crate) fn tell<F: FnMut(Vec<u8>) -> ControlFlow<()>>(
    mappings: impl Iterator<Item = Result<(MappingKey, Mapping), dataplane::Error>>,
    filter: &MappingFilter,
    scene: &Scene,
    now_ns: u64,
    rows: &mut Rows<F>,
) -> Result<(), Unanswered> {
    for mapping in mappings {
        let (key, mapping) = mapping?;
        let router = scene.router_id(key.router_vni);
        let Some(router) = router.filter(|own| filter.router.is_none_or(|wanted| wanted == *own)) else {
            continue;
        };
        let endpoint =
            |address: pipeline::Address, port| SocketAddrV4::new(Ipv4Addr::from(address.to_v4()), port);
        let row = MappingRow {
            router,
            protocol: key.protocol,
            internal: endpoint(key.address, key.port),
            external: endpoint(mapping.address, mapping.port),
            age_ms: now_ns.saturating_sub(mapping.created_ns) / 1_000_000,
        };
        if rows.push(&row)?.is_break() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::fixture;
    use model::RouterId;
    use std::time::Instant;

    fn mapping(router_vni: u32, port: u16) -> (MappingKey, Mapping) {
        let key = MappingKey { router_vni, address: fixture::VM_A.into(), port: 4000, protocol: 17, zero: 0 };
        let mapping = Mapping {
            external_vni: fixture::EXTERNAL,
            address: fixture::SNAT.into(),
            port,
            zero: 0,
            inside_vni: fixture::BLUE,
            zero_end: 0,
            created_ns: 1_000_000_000,
        };
        (key, mapping)
    }

    fn told(filter: MappingFilter) -> Vec<MappingRow> {
        let scene = fixture::scene(Instant::now());
        let mut text = Vec::new();
        let mut rows = Rows::new(|chunk| {
            text.extend(chunk);
            ControlFlow::Continue(())
        });
        let all = [mapping(fixture::ROUTER, 2047), mapping(999, 2048)].map(Ok);
        tell(all.into_iter(), &filter, &scene, 3_000_000_000, &mut rows).unwrap();
        let _ = rows.flush();
        serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_mapping_has_its_router_and_both_endpoints() {
        let want = MappingRow {
            router: fixture::router(),
            protocol: 17,
            internal: SocketAddrV4::new(fixture::VM_A, 4000),
            external: SocketAddrV4::new(fixture::SNAT, 2047),
            age_ms: 2000,
        };
        assert_eq!(told(MappingFilter::default()), [want], "of a router that is gone nothing is told");
        assert_eq!(told(MappingFilter { router: Some(want.router) }), [want]);
        assert_eq!(told(MappingFilter { router: Some(RouterId::MAX) }), []);
    }
}
