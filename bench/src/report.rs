//! What was measured: medians over the rounds, ratios of pairs, a table for people and JSON for machines.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::load::{Measured, Workload};

/// All rounds of one workload with so many callers.
pub(super) struct Section {
    pub(super) workload: Workload,
    pub(super) callers: usize,
    pub(super) entries: Vec<Series>,
}

/// One contender's rounds.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) rounds: Vec<Measured>,
}

impl Series {
    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }
}

/// The middle one, or of an even number the mean of the middle two; 0 of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (below, above) = (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2));
    below.zip(above).map_or(0.0, |(below, above)| f64::midpoint(*below, *above))
}

impl Section {
    /// How the first contender, the cache, compares with another in the rounds that they ran side by side.
    fn pairs(&self, other: &Series, compare: impl Fn(&Measured, &Measured) -> f64) -> f64 {
        let cache = self.entries.first().map_or(&[][..], |entry| &entry.rounds);
        median(cache.iter().zip(&other.rounds).map(|(cache, other)| compare(cache, other)))
    }

    fn ratio(&self, other: &Series) -> f64 {
        self.pairs(other, |cache, other| cache.calls_per_second / other.calls_per_second)
    }

    fn more_micros(&self, other: &Series) -> f64 {
        self.pairs(other, |cache, other| cache.p50 - other.p50)
    }

    pub(super) fn table(&self) -> String {
        let callers =
            if self.callers == 1 { "1 caller".to_owned() } else { format!("{} callers", self.callers) };
        let mut table = format!(
            "\n{:<38}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            format!("{}, {callers}", self.workload.name()),
            "calls/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU s/1k",
            "server's",
            "cache is",
            "p50 by us"
        );
        for (at, series) in self.entries.iter().enumerate() {
            let _ = write!(
                table,
                "  {:<36}{:>10.0}{:>10.1}{:>10.1}{:>10.1}{:>10.4}",
                series.name,
                series.median(|round| round.calls_per_second),
                series.median(|round| round.p50),
                series.median(|round| round.p99),
                series.median(|round| round.p999),
                series.median(|round| round.cpu_per_1000),
            );
            // One that does not ask the database has no such thing, nor is one known that runs elsewhere.
            let _ = write!(
                table,
                "{:>10.4}",
                series.median(|round| round.server_cpu_per_1000.unwrap_or_default())
            );
            if at > 0 {
                let _ = write!(table, "{:>9.2}x{:>+10.1}", self.ratio(series), self.more_micros(series));
            }
            table.push('\n');
        }
        table
    }

    pub(super) fn json(&self) -> Value {
        let series = |series: &Series| {
            json!({
                "name": series.name,
                "calls": series.rounds.iter().map(|round| round.calls).sum::<usize>(),
                "calls_per_second": series.median(|round| round.calls_per_second),
                "p50_us": series.median(|round| round.p50),
                "p99_us": series.median(|round| round.p99),
                "p999_us": series.median(|round| round.p999),
                "cpu_seconds_per_1000_calls": series.median(|round| round.cpu_per_1000),
                "server_cpu_seconds_per_1000_calls": series.median(|round| round.server_cpu_per_1000.unwrap_or_default()),
                "cache_to_this_throughput": self.ratio(series),
                "cache_minus_this_p50_us": self.more_micros(series),
                "rounds_calls_per_second": series.rounds.iter().map(|round| round.calls_per_second).collect::<Vec<_>>(),
            })
        };
        json!({
            "workload": self.workload.name(),
            "callers": self.callers,
            "contenders": self.entries.iter().map(series).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        for (of, is) in [(&[][..], 0.0), (&[3.0], 3.0), (&[4.0, 1.0], 2.5), (&[9.0, 1.0, 5.0], 5.0)] {
            assert_eq!(median(of.iter().copied()), is);
        }
    }
}
