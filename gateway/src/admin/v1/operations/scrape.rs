//! Reading one's own metrics: the text that Prometheus is given, looked up by family and label.
//!
//! So a figure on the live page is the figure of the boards, and the hot path counts for nobody twice.

/// One rendering of all metrics.
pub(super) struct Scrape(String);

impl Scrape {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The series of a family: what stands in its braces, and its value.
    pub(super) fn series<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(family)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    /// The sum over all series of a family; 0 where there is none.
    pub(super) fn sum(&self, family: &str) -> f64 {
        self.series(family).map(|(_, value)| value).sum()
    }

    /// The value of a family with one series, if there is one.
    pub(super) fn value(&self, family: &str) -> Option<f64> {
        self.series(family).map(|(_, value)| value).next()
    }

    /// The values of a family by its one label.
    pub(super) fn by_label(&self, family: &str) -> Vec<(String, f64)> {
        let label = |labels: &str| labels.split('"').nth(1).unwrap_or_default().to_owned();
        self.series(family).map(|(labels, value)| (label(labels), value)).collect()
    }

    /// Upper bounds and cumulative counts of a histogram, over all its series.
    pub(super) fn buckets(&self, family: &str) -> Vec<(f64, f64)> {
        let family = format!("{family}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (labels, count) in self.series(&family) {
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            let bound = match bound {
                Some("+Inf") => f64::INFINITY,
                Some(bound) => bound.parse().unwrap_or(f64::INFINITY),
                None => continue,
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets
    }
}

/// A quantile of what came between two readings of the same histogram, in its unit, by interpolation within a bucket. `None`: nothing came.
pub(super) fn quantile(q: f64, before: &[(f64, f64)], now: &[(f64, f64)]) -> Option<f64> {
    let earlier =
        |bound: f64| before.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
    let came: Vec<(f64, f64)> =
        now.iter().map(|(bound, count)| (*bound, (count - earlier(*bound)).max(0.0))).collect();
    let total = came.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
    let rank = q * total;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in came {
        if count >= rank {
            let share = if count > below { (rank - below) / (count - below) } else { 1.0 };
            return Some(if bound.is_finite() { low + (bound - low) * share } else { low });
        }
        (low, below) = (bound, count);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP a_total x
a_total{qos=\"0\"} 3
a_total{qos=\"1\"} 4
a_total_other 9
lag{consumer=\"sink/a b\"} 7
plain 1.5
h_bucket{le=\"1\"} 10
h_bucket{le=\"2\"} 20
h_bucket{le=\"+Inf\"} 20
";

    #[test]
    fn families_are_found_whole_and_labels_read() {
        let scrape = Scrape::new(TEXT.to_owned());
        assert_eq!(scrape.sum("a_total"), 7.0);
        assert_eq!(scrape.value("plain"), Some(1.5));
        assert_eq!(scrape.value("absent"), None);
        assert_eq!(scrape.by_label("lag"), [("sink/a b".to_owned(), 7.0)]);
        assert_eq!(scrape.buckets("h"), [(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)]);
    }

    #[test]
    fn a_quantile_is_of_what_came_since() {
        let before = [(1.0, 10.0), (2.0, 10.0), (f64::INFINITY, 10.0)];
        let now = [(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)];
        assert_eq!(quantile(0.5, &before, &now), Some(1.5));
        assert_eq!(quantile(0.5, &[], &now), Some(1.0));
        assert_eq!(quantile(0.5, &now, &now), None);
        assert_eq!(quantile(0.99, &[], &[(1.0, 0.0), (f64::INFINITY, 4.0)]), Some(1.0));
    }
}
