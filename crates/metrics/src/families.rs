//! Every metric there is. What is not in this list cannot be shown.

/// A metric with all its series.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Without the suffixes that the format adds (`_total`; `_bucket`, `_sum`, `_count`).
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Family {
    /// Names of the series that queries use.
    pub fn series(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
        };
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.name)).collect()
    }
}

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub static $constant: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// All of them.
        pub static ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    BUILD = Gauge "nanboku_build_info" ["part", "version"]
        "Always 1; its labels say what runs";

    PACKETS = Counter "nanboku_agent_packets" ["edge"]
        "Packets by where they came in and how they ended";
    DROPS = Counter "nanboku_agent_drops" ["stage", "reason"]
        "Packets dropped; their sum is that of the edge dropped";
    PUNTS = Counter "nanboku_agent_punts" ["kind"]
        "Packets handed to the agent";
    PORT_PACKETS = Counter "nanboku_agent_port_packets" ["direction"]
        "Packets of all VMs of the host: sent by them, delivered to them";
    PORT_BYTES = Counter "nanboku_agent_port_bytes" ["direction"]
        "Bytes of frames of all VMs of the host";
    METERING_PACKETS = Counter "nanboku_metering_packets" ["label_id"]
        "Packets across the gateways of routers, by metering label; of the VMs of the host";
    METERING_BYTES = Counter "nanboku_metering_bytes" ["label_id"]
        "Bytes of IP packets across the gateways of routers, by metering label; of the VMs of the host";
    PORTS = Gauge "nanboku_agent_ports" ["state"]
        "Ports of VMs that are here: programmed, and waiting for it";
    SESSIONS = Gauge "nanboku_agent_sessions" []
        "Connections, as of the last sweep";
    MAPPINGS = Gauge "nanboku_agent_nat_mappings" []
        "NAT mappings, as of the last sweep";
    SWEPT = Counter "nanboku_agent_swept" ["what"]
        "Sessions, mappings and ports that the sweep ended because they were over";
    SWEEP_SECONDS = Histogram "nanboku_agent_sweep_seconds" []
        "Duration of a sweep over sessions and mappings";
    NAT_PORTS = Gauge "nanboku_agent_nat_ports" ["state"]
        "External ports of this host's port blocks: granted, and used (of each block the protocol that uses most)";
    NAT_BLOCKS = Gauge "nanboku_agent_nat_blocks" ["state"]
        "Port blocks of this host: active, retiring";
    TABLE_ENTRIES = Gauge "nanboku_agent_table_entries" ["table"]
        "Entries of the configuration tables";
    PROGRAMMING_SECONDS = Histogram "nanboku_agent_programming_seconds" []
        "From a change of the host's slice to the tables of the kernel";
    PROGRAMMING_FAILURES = Counter "nanboku_agent_programming_failures" []
        "Times the tables could not be written";
    PROBLEMS = Gauge "nanboku_agent_problems" []
        "Objects of the slice that are wrong and were left out";
    REVISION = Gauge "nanboku_agent_revision" ["state"]
        "Revision of the slice: as told by the controller, and as programmed";
    CONNECTED = Gauge "nanboku_agent_connected" []
        "1: the stream to the controller stands";
    UPLINKS = Gauge "nanboku_agent_uplinks" ["state"]
        "Provider NICs: up, and down or missing";
    NEIGHBORS = Gauge "nanboku_agent_neighbors" ["state"]
        "Addresses on external networks: resolved, and asked for";
    BFD_PEERS = Gauge "nanboku_agent_bfd_peers" ["state"]
        "Other hosts by the state of the BFD session with them";
    BFD_REFUSED = Counter "nanboku_agent_bfd_refused" ["reason"]
        "BFD packets that were not taken";
    EVENTS_LEFT = Counter "nanboku_agent_unanswered" ["what"]
        "Frames and ICMP errors that were asked for and not sent";

    HOSTS = Gauge "nanboku_controller_hosts" ["state"]
        "Hosts: known, connected, live, drained";
    OBJECTS = Gauge "nanboku_controller_objects" ["kind"]
        "Objects of the model";
    CONTROLLER_PORTS = Gauge "nanboku_controller_ports" ["status"]
        "Ports by their status in the API";
    BLOCKS = Gauge "nanboku_controller_nat_blocks" ["state"]
        "Port blocks granted to hosts: active, retiring";
    BLOCK_PORTS = Gauge "nanboku_controller_nat_ports" ["state"]
        "External ports of all hosts' blocks: granted, and used as hosts last said";
    GATEWAYS = Gauge "nanboku_controller_gateways" ["external_network"]
        "Live hosts that can be gateways of an external network";
    STORE_REVISION = Gauge "nanboku_controller_revision" []
        "Revision of the store";
    HOSTS_BEHIND = Gauge "nanboku_controller_hosts_behind" []
        "Connected hosts that have not programmed what they were told";
    API_REQUESTS = Counter "nanboku_api_requests" ["method", "route", "status"]
        "Requests answered by the API";
    API_SECONDS = Histogram "nanboku_api_request_seconds" ["method", "route"]
        "From a request to the beginning of its answer";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            let name = family.name;
            assert!(name.starts_with("nanboku_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(!name.ends_with("_total"), "{name}: the format adds it");
            assert!(family.kind != Kind::Histogram || name.ends_with("_seconds"), "{name}: unit");
            assert!(!family.help.ends_with('.'), "{name}: one phrase");
            let unbounded = ["port", "port_id", "address", "mac", "session", "instance", "host"];
            assert!(family.labels.iter().all(|label| !unbounded.contains(label)), "{name}: cardinality");
        }
    }

    /// Every `nanboku_…` in the dashboard's queries is a series that exists, and it shows all families but few.
    #[test]
    fn the_dashboard_asks_only_for_what_exists() {
        let text = include_str!("../../../contrib/grafana/nanboku.json");
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
        let series: BTreeSet<String> = ALL.iter().flat_map(|family| family.series()).collect();
        let mut asked = BTreeSet::new();
        let mut queries = 0;
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries += 1;
                let query = target["expr"].as_str().unwrap();
                let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                for word in words.filter(|word| word.starts_with("nanboku_")) {
                    assert!(series.contains(word), "'{word}' of '{query}' does not exist");
                    asked.insert(word.to_owned());
                }
            }
        }
        assert!(queries > 15, "{queries} queries");
        let unseen = |family: &&&Family| !family.series().iter().any(|series| asked.contains(series));
        let unseen: Vec<&str> = ALL.iter().filter(unseen).map(|family| family.name).collect();
        assert!(unseen.len() <= 6, "not on the dashboard: {unseen:?}");
    }

    /// The document's table is this list.
    #[test]
    fn the_documentation_names_every_metric() {
        let text = include_str!("../../../docs/metrics.md");
        for family in ALL {
            let series = family.series();
            let shown = series.last().unwrap().trim_end_matches("_count");
            assert!(text.contains(&format!("`{shown}`")), "docs/metrics.md lacks `{shown}`");
            for label in family.labels {
                assert!(text.contains(label), "docs/metrics.md lacks the label {label} of {shown}");
            }
        }
    }
}
