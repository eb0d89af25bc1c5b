//! Statistics as Prometheus text: Envoy's names and labels, the `prometheus` crate's encoder.
//!
//! `cluster.up.upstream_rq_200` becomes `envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="up"}`.
//! Counters come first, then gauges, then histograms, each sorted by metric name. Histograms have Envoy's default
//! buckets and count since the first epoch; their sum is exact, where Envoy estimates it from its bins.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto;

use super::tags::Tags;
use super::{Bin, Kind, Stat, Value, histogram};

/// The text of those statistics.
///
/// # Errors
/// What the encoder says.
pub fn render(stats: &[Stat], tags: &Tags) -> Result<String, prometheus::Error> {
    let mut families: BTreeMap<(Order, String), Vec<proto::Metric>> = BTreeMap::new();
    for stat in stats {
        let extracted = tags.extract(&stat.name);
        let labels = extracted.tags.iter().map(|(name, value)| label(name, value)).collect();
        let key = (Order::of(stat.kind), format!("envoy_{}", sanitise(&extracted.name)));
        families.entry(key).or_default().push(metric(stat, labels));
    }
    let families: Vec<proto::MetricFamily> = families
        .into_iter()
        .map(|((order, name), metrics)| {
            let mut family = proto::MetricFamily::default();
            family.set_name(name);
            family.set_field_type(order.metric_type());
            family.set_metric(metrics);
            family
        })
        .collect();
    TextEncoder::new().encode_to_string(&families)
}

/// The order of the sections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Counters,
    Gauges,
    Histograms,
}

impl Order {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counters,
            Kind::Gauge | Kind::GaugeLatest => Self::Gauges,
            Kind::Histogram => Self::Histograms,
        }
    }

    fn metric_type(self) -> proto::MetricType {
        match self {
            Self::Counters => proto::MetricType::COUNTER,
            Self::Gauges => proto::MetricType::GAUGE,
            Self::Histograms => proto::MetricType::HISTOGRAM,
        }
    }
}

fn metric(stat: &Stat, labels: Vec<proto::LabelPair>) -> proto::Metric {
    let mut metric = proto::Metric::from_label(labels);
    match &stat.value {
        Value::Number(value) if stat.kind == Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(*value as f64);
            metric.set_counter(counter);
        }
        Value::Number(value) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(*value as f64);
            metric.set_gauge(gauge);
        }
        Value::Histogram { sum, bins } => metric.set_histogram(buckets(*sum, bins)),
    }
    metric
}

fn buckets(sum: u64, bins: &[Bin]) -> proto::Histogram {
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(histogram::count(bins));
    histogram.set_sample_sum(sum as f64);
    let buckets = histogram::BOUNDS.iter().zip(histogram::cumulative(bins)).map(|(bound, count)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    histogram.set_bucket(buckets.collect());
    histogram
}

fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut label = proto::LabelPair::default();
    label.set_name(sanitise(name));
    label.set_value(value.to_owned());
    label
}

fn sanitise(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
