//! Families of the admin listener.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Names the families for `/metrics`.
pub fn describe() {
    describe_counter!(
        "gateway_admin_refused_total",
        Unit::Count,
        "Requests to the admin listener that were not done, by the kind of the problem"
    );
    describe_gauge!("gateway_admin_long_polls", Unit::Count, "Requests that wait for events of a consumer");
    describe_gauge!("gateway_admin_watches", Unit::Count, "Open watches of consumers, exports included");
}

/// `kind` is one of the closed list of [`super::problem::Kind`].
pub(super) fn refused(kind: &'static str) {
    counter!("gateway_admin_refused_total", "kind" => kind).increment(1);
}

/// Counts itself in a gauge for as long as it lives.
pub(super) struct Counted(&'static str);

impl Counted {
    pub(super) fn new(gauge: &'static str) -> Self {
        gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}
