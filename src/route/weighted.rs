//! Which of several clusters.

use std::rc::Rc;

use bytes::Bytes;

use super::decision::Level;
use super::facts::{Facts, field, values};
use crate::config::model::{ClusterSpecifier, HeadField, Keyed, RouteAction, WeightedName};

/// Weighted clusters, to be drawn from.
#[derive(Debug)]
pub(super) struct Weighted {
    /// Sums of the weights up to and with each.
    sums: Vec<u64>,
    /// The weights, where runtime values may change them.
    keyed: Vec<Keyed<u32>>,
    draw_from: Option<HeadField>,
    levels: Vec<Rc<Level>>,
    hosts: Vec<Bytes>,
}

/// Of a route that has some.
pub(super) fn compile(action: &RouteAction, none: &Rc<Level>) -> Option<Weighted> {
    let RouteAction::Forward(forward) = action else { return None };
    let ClusterSpecifier::Weighted(model) = &forward.cluster else { return None };
    let mut sum = 0;
    Some(Weighted {
        sums: model
            .clusters
            .iter()
            .map(|cluster| {
                sum += u64::from(cluster.weight.default);
                sum
            })
            .collect(),
        keyed: match model.clusters.iter().any(|cluster| cluster.weight.key().is_some()) {
            true => model.clusters.iter().map(|cluster| cluster.weight.clone()).collect(),
            false => Vec::new(),
        },
        draw_from: model.draw_from.clone(),
        levels: model.clusters.iter().map(|cluster| Level::compile(&cluster.rules, &cluster.filters, none)).collect(),
        hosts: model.clusters.iter().map(|cluster| cluster.host_rewrite.clone().into()).collect(),
    })
}

/// Adds the names of the clusters of a route.
pub(super) fn targets(action: &RouteAction, targets: &mut Vec<Option<String>>) {
    let RouteAction::Forward(forward) = action else { return };
    match &forward.cluster {
        ClusterSpecifier::Name(name) => targets.push(Some(name.clone())),
        ClusterSpecifier::Header(_) => targets.push(None),
        ClusterSpecifier::Weighted(weighted) => {
            targets.extend(weighted.clusters.iter().map(|cluster| match &cluster.cluster {
                WeightedName::Name(name) => Some(name.clone()),
                WeightedName::Header(_) => None,
            }));
        }
    }
}

/// The name that the request has, where it is asked.
pub(super) fn named(specifier: &ClusterSpecifier, choice: Option<usize>, facts: &Facts<'_>) -> Option<Bytes> {
    let from = match specifier {
        ClusterSpecifier::Name(_) => return None,
        ClusterSpecifier::Header(from) => from,
        ClusterSpecifier::Weighted(weighted) => match &weighted.clusters.get(choice?)?.cluster {
            WeightedName::Name(_) => return None,
            WeightedName::Header(from) => from,
        },
    };
    // The first counts, as Envoy has it.
    match from {
        HeadField::Header(name) => values(&facts.head.headers, name).next().map(Bytes::copy_from_slice),
        other => field(facts.head, other).map(|name| Bytes::copy_from_slice(&name)),
    }
}

impl Weighted {
    /// The place of the one that the request's number falls on.
    pub(super) fn draw(&self, facts: &Facts<'_>) -> usize {
        let given = self.draw_from.as_ref().and_then(|from| {
            let value = field(facts.head, from)?;
            std::str::from_utf8(&value).ok()?.trim_ascii().parse::<u64>().ok()
        });
        let random = given.unwrap_or(facts.random);
        if let Some(drawn) = self.draw_now(random) {
            return drawn;
        }
        let sum = self.sums.last().copied().unwrap_or(1).max(1);
        let drawn = random % sum;
        self.sums.partition_point(|end| *end <= drawn).min(self.sums.len().saturating_sub(1))
    }

    /// The same by the weights that runtime values give; `None` where there are none, or their sum is 0.
    fn draw_now(&self, random: u64) -> Option<usize> {
        let weights = || self.keyed.iter().map(|weight| u64::from(weight.now()));
        let sum = if self.keyed.is_empty() { 0 } else { weights().sum::<u64>() };
        let mut left = random.checked_rem(sum)?;
        weights().position(|weight| {
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it
        })
    }

    pub(super) fn level(&self, at: usize) -> &Rc<Level> {
        &self.levels[at]
    }

    pub(super) fn host(&self, at: usize) -> &[u8] {
        self.hosts.get(at).map_or(&[], |host| host)
    }
}
