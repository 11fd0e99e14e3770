//! From samples to ratios, JSON lines and a table.

use crate::figure::Target;
use serde::Serialize;

/// One comparison, or one absolute figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) figure: String,
    /// How the VMs are connected.
    pub(crate) variant: String,
    pub(crate) unit: &'static str,
    /// Nanboku's median.
    pub(crate) median: f64,
    /// Median over the rounds of Nanboku's value divided by the baseline's in the same round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline_median: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ok: Option<bool>,
    pub(crate) rounds: usize,
    /// Nanboku's values, in the order of the rounds, and the baseline's.
    pub(crate) samples: Vec<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) baseline_samples: Vec<f64>,
}

impl Row {
    /// Compares values of the same rounds. None without a common round.
    pub(crate) fn compared(
        (figure, variant, unit): (&str, &str, &'static str),
        samples: &[f64],
        (baseline, baseline_samples): (&'static str, &[f64]),
        target: Option<Target>,
    ) -> Option<Self> {
        let ratios: Vec<f64> =
            samples.iter().zip(baseline_samples).map(|(ours, theirs)| ours / theirs).collect();
        let ratio = median(&ratios)?;
        Some(Self {
            figure: figure.to_owned(),
            variant: variant.to_owned(),
            unit,
            median: rounded(median(samples)?),
            ratio: Some(rounded(ratio)),
            baseline: Some(baseline),
            baseline_median: median(baseline_samples).map(rounded),
            target: target.map(Target::text),
            ok: target.map(|target| target.holds(ratio)),
            rounds: ratios.len(),
            samples: samples.iter().copied().map(rounded).collect(),
            baseline_samples: baseline_samples.iter().copied().map(rounded).collect(),
        })
    }

    /// A figure that is judged by itself.
    pub(crate) fn absolute(
        (figure, variant, unit): (&str, &str, &'static str),
        samples: &[f64],
        target: Option<Target>,
    ) -> Option<Self> {
        let value = median(samples)?;
        Some(Self {
            figure: figure.to_owned(),
            variant: variant.to_owned(),
            unit,
            median: rounded(value),
            ratio: None,
            baseline: None,
            baseline_median: None,
            target: target.map(|target| format!("{} {unit}", target.text())),
            ok: target.map(|target| target.holds(value)),
            rounds: samples.len(),
            samples: samples.iter().copied().map(rounded).collect(),
            baseline_samples: Vec::new(),
        })
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// Three digits behind the point are more than the machine can tell apart.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The table of the README.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| figure | VM | Nanboku | against | | ratio | target | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let number = |value: Option<f64>| value.map_or(String::new(), readable);
        let verdict = row.ok.map_or("", |ok| if ok { "met" } else { "missed" });
        text += &format!(
            "| {} | {} | {} {} | {} | {} | {} | {} | {} |\n",
            row.figure,
            row.variant,
            readable(row.median),
            row.unit,
            row.baseline.unwrap_or_default(),
            number(row.baseline_median),
            row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
            row.target.as_deref().unwrap_or_default(),
            verdict,
        );
    }
    text
}

fn readable(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn rounds_are_compared_in_pairs() {
        let target = Some(Target::AtLeast(1.5));
        let row = Row::compared(("f", "veth", "1/s"), &[10.0, 30.0, 8.0], ("b", &[5.0, 30.0, 4.0]), target)
            .unwrap();
        // 2, 1, 2: a slow round is slow for both.
        assert_eq!((row.ratio, row.ok, row.median, row.rounds), (Some(2.0), Some(true), 10.0, 3));
        assert_eq!(row.target.as_deref(), Some(">= 1.5"));
    }

    #[test]
    fn an_upper_bound_is_missed_from_above() {
        let row = Row::absolute(("rss", "agent", "MB"), &[41.0], Some(Target::AtMost(40.0))).unwrap();
        assert_eq!((row.ok, row.target.as_deref()), (Some(false), Some("<= 40 MB")));
        assert!(table(&[row]).contains("| rss | agent | 41.0 MB |  |  |  | <= 40 MB | missed |"));
    }

    #[test]
    fn json_says_what_the_readme_needs() {
        let row =
            Row::compared(("f", "tap", "us"), &[9.0], ("b", &[10.0]), Some(Target::AtMost(0.9))).unwrap();
        let json = serde_json::to_value(&row).unwrap();
        for key in ["figure", "variant", "median", "ratio", "baseline", "target", "ok", "rounds"] {
            assert!(json.get(key).is_some(), "{key}");
        }
    }
}
