//! The two halves of a ledger that is kept in several processes: who publishes keeps [`PublisherHalf`], who subscribes keeps
//! [`SubscriberHalf`], and [`Merger`](super::Merger) brings them together when everything is over.
//!
//! Format: per device rows of 64 events, one word per fact and row: *sent, assured (QoS 1), acknowledged, rejected* for a
//! publisher, *delivered* for a subscriber. Rows only grow at the end and are never dropped, so an event costs four bits and
//! one more per subscriber, whatever becomes of it: 100 million events with two subscribers take some 85 MB. A half refuses
//! ([`LedgerFull`]) what would take it past [`HALF_BYTES_MAX`].

use super::{Delivery, Received};
use crate::class::{ByClass, Classes};
use crate::qos::{ByQoS, QoS};

/// What one half may grow to.
pub const HALF_BYTES_MAX: usize = 256 << 20;

/// Words per row of a publisher.
pub const PUBLISHER_PLANES: usize = 4;

const SENT: usize = 0;
const ASSURED: usize = 1;
const ACKNOWLEDGED: usize = 2;
const REJECTED: usize = 3;

const ROW_EVENTS: u32 = u64::BITS;

/// A half would grow past its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger of this worker would grow past {} MiB; use more workers or a shorter run", HALF_BYTES_MAX >> 20)]
pub struct LedgerFull;

/// What some devices published, and what became of it as far as publishers can know.
#[derive(Debug)]
pub struct PublisherHalf(Rows<PUBLISHER_PLANES>);

impl PublisherHalf {
    /// For so many devices; they are told apart by their place, 0 and up.
    pub fn new(devices: usize) -> Self {
        PublisherHalf(Rows::new(devices))
    }

    /// An event was written to a connection.
    ///
    /// # Errors
    /// [`LedgerFull`]; the event is not noted then.
    pub fn sent(&mut self, device: usize, sequence: u32, qos: QoS) -> Result<(), LedgerFull> {
        let Some(row) = self.0.row_mut(device, sequence)? else { return Ok(()) };
        set(row, SENT, sequence);
        if qos == QoS::AtLeastOnce {
            set(row, ASSURED, sequence);
        }
        Ok(())
    }

    /// A sent event was acknowledged with success.
    pub fn acknowledged(&mut self, device: usize, sequence: u32) {
        self.note(device, sequence, ACKNOWLEDGED);
    }

    /// A sent event was refused with a Reason Code.
    pub fn rejected(&mut self, device: usize, sequence: u32) {
        self.note(device, sequence, REJECTED);
    }

    /// A device's rows, for [`Merger`](super::Merger).
    pub fn words(&self, device: usize) -> &[u64] {
        self.0.words(device)
    }

    /// The memory of all rows, bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    fn note(&mut self, device: usize, sequence: u32, plane: usize) {
        // It was sent, so its row is there.
        if let Ok(Some(row)) = self.0.row_mut(device, sequence) {
            set(row, plane, sequence);
        }
    }
}

/// What reached one subscriber.
#[derive(Debug)]
pub struct SubscriberHalf {
    rows: Rows<1>,
    /// Per device and QoS: the sequence number after the newest that arrived.
    newest: Box<[[u32; 2]]>,
    classes: Classes,
    counts: ByClass<ByQoS<Received>>,
}

impl SubscriberHalf {
    /// For a fleet of so many devices of these classes.
    pub fn new(devices: usize, classes: Classes) -> Self {
        SubscriberHalf {
            rows: Rows::new(devices),
            newest: vec![[0; 2]; devices].into(),
            classes,
            counts: ByClass::default(),
        }
    }

    /// An event arrived. Whether it was ever published is found out by the merger.
    ///
    /// # Errors
    /// [`LedgerFull`]; the delivery is not noted then.
    pub fn delivered(&mut self, device: u32, sequence: u32, qos: QoS) -> Result<Delivery, LedgerFull> {
        let counts = &mut self.counts[self.classes.of(device)][qos];
        let device = device as usize;
        let Some([row]) = self.rows.row_mut(device, sequence)? else {
            counts.unknown += 1;
            return Ok(Delivery::Unknown);
        };
        let mask = mask(sequence);
        if *row & mask != 0 {
            counts.duplicated += 1;
            return Ok(Delivery::Duplicate);
        }
        *row |= mask;
        let newest = self.newest.get_mut(device).and_then(|newest| newest.get_mut(qos as usize));
        Ok(match newest {
            Some(newest) if *newest > sequence => {
                counts.out_of_order += 1;
                Delivery::OutOfOrder
            }
            Some(newest) => {
                *newest = sequence.saturating_add(1);
                Delivery::First
            }
            None => Delivery::Unknown,
        })
    }

    /// What needs no merging: duplicated, out of order, and of unknown devices.
    pub fn counts(&self) -> &ByClass<ByQoS<Received>> {
        &self.counts
    }

    /// A device's rows, for [`Merger`](super::Merger).
    pub fn words(&self, device: usize) -> &[u64] {
        self.rows.words(device)
    }

    /// The memory of all rows, bytes.
    pub fn bytes(&self) -> usize {
        self.rows.bytes
    }
}

/// Rows of `PLANES` words per device.
#[derive(Debug)]
struct Rows<const PLANES: usize> {
    devices: Box<[Vec<u64>]>,
    bytes: usize,
}

impl<const PLANES: usize> Rows<PLANES> {
    fn new(devices: usize) -> Self {
        Rows { devices: vec![Vec::new(); devices].into(), bytes: devices * size_of::<Vec<u64>>() }
    }

    /// The row of an event, made if need be; none if there is no such device.
    fn row_mut(&mut self, device: usize, sequence: u32) -> Result<Option<&mut [u64; PLANES]>, LedgerFull> {
        let Some(words) = self.devices.get_mut(device) else { return Ok(None) };
        let start = (sequence / ROW_EVENTS) as usize * PLANES;
        let end = start + PLANES;
        if end > words.len() {
            if end > words.capacity() {
                // An eighth of slack instead of the usual doubling: memory is what this is about.
                let room = (end + end / 8).next_multiple_of(PLANES);
                let bytes = self.bytes + (room - words.capacity()) * size_of::<u64>();
                if bytes > HALF_BYTES_MAX {
                    return Err(LedgerFull);
                }
                words.reserve_exact(room - words.len());
                self.bytes = bytes;
            }
            words.resize(end, 0);
        }
        Ok(words.get_mut(start..end).and_then(|row| row.try_into().ok()))
    }

    fn words(&self, device: usize) -> &[u64] {
        self.devices.get(device).map_or(&[], Vec::as_slice)
    }
}

fn set<const PLANES: usize>(row: &mut [u64; PLANES], plane: usize, sequence: u32) {
    if let Some(word) = row.get_mut(plane) {
        *word |= mask(sequence);
    }
}

fn mask(sequence: u32) -> u64 {
    1 << (sequence % ROW_EVENTS)
}

/// One row of a publisher, as the merger reads it.
#[derive(Clone, Copy, Default)]
pub(super) struct PublisherRow {
    pub(super) sent: u64,
    pub(super) assured: u64,
    pub(super) acknowledged: u64,
    pub(super) rejected: u64,
}

impl PublisherRow {
    /// Row `number` of a device's words; an empty one past their end.
    pub(super) fn of(words: &[u64], number: usize) -> Self {
        let word = |plane| words.get(number * PUBLISHER_PLANES + plane).copied().unwrap_or(0);
        PublisherRow {
            sent: word(SENT),
            assured: word(ASSURED),
            acknowledged: word(ACKNOWLEDGED),
            rejected: word(REJECTED),
        }
    }
}
