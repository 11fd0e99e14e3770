//! What is shown at one moment.

use crate::families::{Family, Kind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Upper bounds in seconds: a change is programmed within 50 ms, a request is answered in a few.
const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// Durations, counted as they happen. Clones count together.
#[derive(Clone, Debug)]
pub struct Latency(Histogram);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(BUCKETS))
    }
}

impl Latency {
    pub fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

#[derive(Clone, Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Histogram),
}

type Series = (Vec<String>, Value);

/// Values of families, collected and then written.
#[derive(Debug, Default)]
pub struct Page {
    /// By name: the family, and each series' labels and value.
    families: BTreeMap<&'static str, (&'static Family, Vec<Series>)>,
}

impl Page {
    /// # Panics
    /// The family is no counter, or the labels are not as many as it has.
    pub fn counter(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.put(family, Kind::Counter, labels, Value::Counter(value));
    }

    /// # Panics
    /// The family is no gauge, or the labels are not as many as it has.
    #[expect(clippy::cast_precision_loss, reason = "the format's numbers are floating")]
    pub fn gauge(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.put(family, Kind::Gauge, labels, Value::Gauge(value as f64));
    }

    /// # Panics
    /// The family is no histogram, or the labels are not as many as it has.
    pub fn latency(&mut self, family: &'static Family, labels: &[&str], latency: &Latency) {
        self.put(family, Kind::Histogram, labels, Value::Histogram(latency.0.clone()));
    }

    fn put(&mut self, family: &'static Family, kind: Kind, labels: &[&str], value: Value) {
        assert!(
            family.kind == kind && family.labels.len() == labels.len(),
            "{} is used wrongly",
            family.name
        );
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let (_, values) = self.families.entry(family.name).or_insert((family, Vec::new()));
        values.push((labels, value));
    }

    /// In OpenMetrics' text format.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _infallible = text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (family, values) in self.families.values() {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            if family.labels.is_empty() {
                values.first().map_or(Ok(()), |(_, value)| write(metric, value))?;
                continue;
            }
            for (labels, value) in values {
                let labels: Vec<(&str, &str)> =
                    family.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
                write(metric.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}

fn write(mut series: MetricEncoder<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Counter(value) => series.encode_counter::<NoLabelSet, _, u64>(value, None),
        Value::Gauge(value) => series.encode_gauge(value),
        Value::Histogram(histogram) => histogram.encode(series),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;

    #[test]
    fn a_page_is_in_the_format_with_help_type_and_labels() {
        let mut page = Page::default();
        page.counter(&families::DROPS, &["route", "no-route"], 3);
        page.counter(&families::DROPS, &["snat", "port-quota"], 1);
        page.gauge(&families::SESSIONS, &[], 12);
        let latency = Latency::default();
        latency.observe(Duration::from_millis(3));
        page.latency(&families::PROGRAMMING_SECONDS, &[], &latency);
        let text = page.text();
        for want in [
            "# HELP nanboku_agent_drops Packets dropped; their sum is that of the edge dropped\n",
            "# TYPE nanboku_agent_drops counter\n",
            "nanboku_agent_drops_total{stage=\"route\",reason=\"no-route\"} 3\n",
            "nanboku_agent_drops_total{stage=\"snat\",reason=\"port-quota\"} 1\n",
            "nanboku_agent_sessions 12.0\n",
            "nanboku_agent_programming_seconds_bucket{le=\"0.002\"} 0\n",
            "nanboku_agent_programming_seconds_bucket{le=\"0.005\"} 1\n",
            "nanboku_agent_programming_seconds_count 1\n",
        ] {
            assert!(text.contains(want), "'{want}' in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut page = Page::default();
        page.gauge(&families::GATEWAYS, &["a\"} 1\nb \\"], 2);
        let text = page.text();
        assert!(text.contains(r#"{external_network="a\"} 1\nb \\"} 2.0"#), "{text}");
    }

    #[test]
    #[should_panic(expected = "nanboku_agent_drops is used wrongly")]
    fn a_label_too_few_is_noticed() {
        Page::default().counter(&families::DROPS, &["route"], 1);
    }
}
