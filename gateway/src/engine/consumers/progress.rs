//! What a consumer has done since it last said so: the content of [`gateway_storage::Entry::ConsumerProgress`].

use super::item::{self, OpenItem};
use super::offset_runs::OffsetRuns;
use super::wire::{Reader, put};

/// The first byte of every encoded progress.
const VERSION: u8 = 1;

/// What a consumer has done since it last said so.
///
/// An event that is handed out and settled between two of these stands in `acked` or `gone` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of which making of the consumer it speaks; that of another one is passed over.
    pub generation: u64,
    /// Every event below was looked at: it is open, or settled, or not for this consumer. Never goes back.
    pub read_to: u64,
    /// Items that are open now, new or changed.
    pub opened: Vec<(u64, OpenItem)>,
    /// Events that are done, by their workers' word. A redriven dead letter among them is removed.
    pub acked: OffsetRuns,
    /// Items that are not open any more for another reason: expired, lost by the log, taken by retention. A redriven dead letter among
    /// them is removed.
    pub gone: OffsetRuns,
    /// Events that have expired, those that were never handed out included.
    pub expired: u64,
    /// Events that the log could not read back.
    pub lost: u64,
    /// Events that the stream's retention took away before they were settled.
    pub missed: u64,
}

impl Progress {
    /// Whether it says nothing that is not known to whoever knows that `read_to` is the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
            && self.acked.is_empty()
            && self.gone.is_empty()
            && (self.expired, self.lost, self.missed) == (0, 0, 0)
    }

    /// The form in the log: a version, then numbers of variable length; some 10 bytes for each item opened, and 2 for each settled.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.generation);
        put(&mut out, self.read_to);
        item::encode(&mut self.opened.iter().map(|(offset, item)| (*offset, item)), &mut out);
        self.acked.encode(&mut out);
        self.gone.encode(&mut out);
        put(&mut out, self.expired);
        put(&mut out, self.lost);
        put(&mut out, self.missed);
        out
    }

    /// What [`Progress::encode`] has written; `None` where it is not legible. `opened` is ascending by offset then.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let progress = Self {
            generation: reader.number()?,
            read_to: reader.number()?,
            opened: item::decode(&mut reader)?,
            acked: OffsetRuns::decode(&mut reader)?,
            gone: OffsetRuns::decode(&mut reader)?,
            expired: reader.number()?,
            lost: reader.number()?,
            missed: reader.number()?,
        };
        reader.is_empty().then_some(progress)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::item::Cause;
    use super::*;
    use proptest::prelude::*;

    pub(in crate::engine::consumers) fn any_item() -> impl Strategy<Value = OpenItem> {
        let cause = prop_oneof![
            Just(None),
            (0..7_usize).prop_map(|at| Some(Cause::ALL[at])),
            any::<u8>().prop_map(|reason| Some(Cause::Rejected(reason)))
        ];
        (any::<u32>(), any::<u64>(), any::<u64>(), "[a-c]{0,2}", cause, any::<bool>(), any::<bool>())
            .prop_map(|(attempts, due_ms, first_ms, worker, cause, leased, is_letter)| OpenItem {
                attempts,
                due_ms,
                first_ms,
                worker: worker.into(),
                cause,
                leased,
                is_letter,
            })
    }

    proptest! {
        #[test]
        fn a_progress_reads_back_as_it_was(
            generation: u64,
            read_to: u64,
            opened in proptest::collection::btree_map(any::<u64>(), any_item(), 0..20),
            acked in proptest::collection::vec(0u64..100, 0..20),
            gone in proptest::collection::vec(0u64..u64::MAX, 0..20),
            expired: u64, lost: u64, missed: u64,
        ) {
            let progress = Progress {
                generation, read_to, opened: opened.into_iter().collect(), acked: acked.into_iter().collect(),
                gone: gone.into_iter().collect(), expired, lost, missed,
            };
            let bytes = progress.encode();
            prop_assert_eq!(Progress::decode(&bytes), Some(progress));
            prop_assert!((0..bytes.len()).all(|len| Progress::decode(&bytes[..len]).is_none()), "cut short");
        }

        #[test]
        fn any_bytes_are_a_progress_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let bytes = [&[VERSION], bytes.as_slice()].concat();
            if let Some(progress) = Progress::decode(&bytes) {
                prop_assert_eq!(Progress::decode(&progress.encode()), Some(progress));
            }
        }
    }

    #[test]
    fn a_thousand_items_under_way_take_some_ten_bytes_each() {
        let item = |offset: u64| OpenItem {
            attempts: 1,
            due_ms: 1_767_225_600_000 + offset / 100,
            first_ms: 1_767_225_570_000 + offset / 100,
            worker: ["worker-1", "worker-2", "worker-3"][offset as usize % 3].into(),
            cause: None,
            leased: true,
            is_letter: false,
        };
        let opened = (0..1000).map(|offset| (1_000_000 + offset * 3, item(offset))).collect();
        let acked = (0..1000).map(|offset| 900_000 + offset * 3).collect();
        let progress = Progress { generation: 7, read_to: 1_003_000, opened, acked, ..Progress::default() };
        let bytes = progress.encode().len();
        assert!(bytes < 12_100, "{bytes}");
    }

    #[test]
    fn a_worker_with_a_long_name_is_remembered_by_its_beginning() {
        let item = OpenItem {
            attempts: 1,
            due_ms: 2,
            first_ms: 1,
            worker: "ä".repeat(200).into(),
            cause: None,
            leased: true,
            is_letter: false,
        };
        let progress = Progress { opened: vec![(3, item)], ..Progress::default() };
        let read = Progress::decode(&progress.encode()).unwrap();
        assert_eq!(&*read.opened[0].1.worker, "ä".repeat(64));
    }
}
