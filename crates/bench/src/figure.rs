//! The figures: what is measured, between whom, and what is promised.

use crate::topology::{Kind, Underlay};
use crate::traffic::{self, Ends};
use crate::variant::{Subject, Way};
use std::time::Duration;

/// A promise about the ratio of Nanboku to a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(bound) => ratio >= bound,
            Self::AtMost(bound) => ratio <= bound,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
        }
    }
}

/// Something Nanboku is compared with; without target it is there for the reader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    pub(crate) subject: Subject,
    target: Option<Target>,
}

/// How a figure is measured.
#[derive(Clone, Copy, Debug)]
enum Method {
    Tcp(usize),
    Packets,
    Connections,
    RoundTrip,
}

/// One figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) way: Way,
    pub(crate) underlay: Underlay,
    method: Method,
    pub(crate) baselines: &'static [Baseline],
}

impl Figure {
    pub(crate) fn measure(&self, ends: Ends<'_>, window: Duration) -> anyhow::Result<f64> {
        match self.method {
            Method::Tcp(connections) => traffic::tcp_gbps(ends, connections, window),
            Method::Packets => traffic::udp_packets_per_second(ends, window),
            Method::Connections => traffic::connections_per_second(ends, window),
            Method::RoundTrip => traffic::round_trip_us(ends, window),
        }
    }

    /// The promise about a kind of VM. Small packets of a tap VM spend their time in the two threads that stand
    /// in for a hypervisor, whoever connects the hosts; there only the streams say something about the hosts.
    pub(crate) fn target(&self, baseline: &Baseline, kind: Kind) -> Option<Target> {
        let judged = kind == Kind::Veth || matches!(self.method, Method::Tcp(_));
        baseline.target.filter(|_| judged)
    }

    /// Everybody who is measured for this figure.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.baselines.iter().map(|baseline| baseline.subject).chain([Subject::Nanboku])
    }
}

const fn promise(subject: Subject, target: Target) -> Baseline {
    Baseline { subject, target: Some(target) }
}

const fn for_the_reader(subject: Subject) -> Baseline {
    Baseline { subject, target: None }
}

const TCP: &[Baseline] = &[promise(Subject::Plain, Target::AtLeast(0.9)), for_the_reader(Subject::Bridge)];
const TCP_WIRE: &[Baseline] =
    &[for_the_reader(Subject::Plain), promise(Subject::Bridge, Target::AtLeast(0.9))];

const fn tcp(
    name: &'static str,
    connections: usize,
    underlay: Underlay,
    baselines: &'static [Baseline],
) -> Figure {
    Figure { name, unit: "Gbit/s", way: Way::EastWest, underlay, method: Method::Tcp(connections), baselines }
}

const fn connections(name: &'static str, way: Way, baselines: &'static [Baseline]) -> Figure {
    Figure { name, unit: "1/s", way, underlay: Underlay::Offloaded, method: Method::Connections, baselines }
}

/// In the order of measurement: the underlay changes once.
pub(crate) const FIGURES: &[Figure] = &[
    tcp("tcp_1", 1, Underlay::Offloaded, TCP),
    tcp("tcp_4", 4, Underlay::Offloaded, TCP),
    Figure {
        name: "udp_64_byte_packets",
        unit: "1/s",
        way: Way::EastWest,
        underlay: Underlay::Offloaded,
        method: Method::Packets,
        baselines: &[for_the_reader(Subject::Plain), promise(Subject::Bridge, Target::AtLeast(1.5))],
    },
    connections(
        "connections_nat",
        Way::NorthSouth,
        &[
            promise(Subject::Masquerade, Target::AtLeast(1.0)),
            promise(Subject::BridgeMasquerade, Target::AtLeast(1.3)),
        ],
    ),
    connections(
        "connections_nat_gateway",
        Way::NorthSouthRemote,
        &[promise(Subject::BridgeMasquerade, Target::AtLeast(1.3))],
    ),
    connections(
        "connections_inside",
        Way::EastWest,
        &[for_the_reader(Subject::Plain), for_the_reader(Subject::Bridge)],
    ),
    Figure {
        name: "round_trip",
        unit: "us",
        way: Way::EastWest,
        underlay: Underlay::Offloaded,
        method: Method::RoundTrip,
        baselines: &[for_the_reader(Subject::Plain), promise(Subject::Bridge, Target::AtMost(0.9))],
    },
    tcp("tcp_1_wire", 1, Underlay::Wire, TCP_WIRE),
    tcp("tcp_4_wire", 4, Underlay::Wire, TCP_WIRE),
];
