//! How often devices speak, and what keeps them from it.

/// How a device's readings follow each other. The mean rate is the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Every period, each event moved by up to `jitter` periods to either side (0 to 0.5), each device with its own phase.
    Periodic {
        /// A fraction of the period.
        jitter: f64,
    },
    /// Independent events with exponential gaps.
    Poisson,
}

/// How often the devices of one cohort speak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    /// How many devices.
    pub devices: u32,
    /// Events per second of all of them.
    pub rate: f64,
    /// How a device's readings follow each other.
    pub arrivals: Arrivals,
    /// The share of events published with QoS 1, 0 to 1.
    pub qos1_share: f64,
    /// The share of events published with QoS 2; with that of QoS 1 at most 1.
    pub qos2_share: f64,
    /// What lies between a reading and its event.
    pub uplink: Uplink,
}

/// What keeps a device from sending a reading at once. Times are those of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Uplink {
    /// Single readings that come late.
    pub late: Option<Lateness>,
    /// A radio that is on for a part of the time.
    pub duty: Option<Duty>,
}

/// Readings that come late, past newer ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lateness {
    /// The share of readings, 0 to 1.
    pub share: f64,
    /// How late they come on average, microseconds.
    pub mean_us: u64,
}

/// A duty cycle, each device with its own phase. What is measured while it sleeps is sent when it wakes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The part of a cycle in which it is awake, microseconds.
    pub awake_us: u64,
    /// A whole cycle, microseconds.
    pub every_us: u64,
}
