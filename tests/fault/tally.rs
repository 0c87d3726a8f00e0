//! The reckoning of one receiver: what is missing, what came twice, what came out of order.

use std::collections::HashSet;

use crate::event::Event;

/// Examples kept for messages.
const EXAMPLES: usize = 10;

/// Events received, by publisher. Numbers of each publisher begin at 0 and have no gaps.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The next number of each publisher that was not received yet.
    next: Vec<u32>,
    /// Passed over, and not received so far.
    missing: HashSet<Event>,
    /// Received before.
    pub(crate) duplicates: u64,
    /// Received for the first time after a later one of the same publisher.
    pub(crate) out_of_order: u64,
    pub(crate) received: u64,
    /// What was published first may be gone: of each publisher, whatever comes first is where it begins.
    from_anywhere: bool,
    examples: Vec<String>,
}

impl Tally {
    pub(crate) fn new(publishers: usize) -> Self {
        Self {
            next: vec![0; publishers],
            missing: HashSet::new(),
            duplicates: 0,
            out_of_order: 0,
            received: 0,
            from_anywhere: false,
            examples: Vec::new(),
        }
    }

    /// Of a receiver that may begin in the middle.
    pub(crate) fn from_anywhere(publishers: usize) -> Self {
        Self { from_anywhere: true, ..Self::new(publishers) }
    }

    pub(crate) fn take(&mut self, event: Event) {
        self.received += 1;
        let next = &mut self.next[event.publisher as usize];
        if event.number < *next {
            if self.missing.remove(&event) {
                self.out_of_order += 1;
                self.note(format!("{event:?} came late"));
            } else {
                self.duplicates += 1;
            }
            return;
        }
        let expected = std::mem::replace(next, event.number + 1);
        if event.number > expected && !(self.from_anywhere && expected == 0) {
            self.missing.extend((expected..event.number).map(|number| Event { number, ..event }));
            self.note(format!("{event:?} where {expected} was to come"));
        }
    }

    fn note(&mut self, example: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    /// The number after the last one received of a publisher.
    pub(crate) fn next_of(&self, publisher: usize) -> u32 {
        self.next[publisher]
    }

    /// Something was passed over and has not come so far.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Acknowledged to their publishers, and not received. `published`: how many each publisher has had acknowledged.
    pub(crate) fn lost(&self, published: &[u32]) -> u64 {
        let passed_over =
            self.missing.iter().filter(|event| event.number < published[event.publisher as usize]).count();
        let never_reached: u64 = self
            .next
            .iter()
            .zip(published)
            .map(|(next, published)| u64::from(published.saturating_sub(*next)))
            .sum();
        passed_over as u64 + never_reached
    }

    /// Every event that was acknowledged has come at least once, or another one of its publisher that is later:
    /// nothing more is to be expected.
    pub(crate) fn has_reached(&self, published: &[u32]) -> bool {
        self.next.iter().zip(published).all(|(next, published)| next >= published)
    }

    /// Nothing lost, nothing out of order.
    pub(crate) fn assert_complete(&self, who: &str, published: &[u32]) {
        let lost = self.lost(published);
        assert!(lost == 0, "{who}: {lost} events were acknowledged and are lost: {:#?}", self.examples);
        assert!(
            self.out_of_order == 0,
            "{who}: {} events out of order: {:#?}",
            self.out_of_order,
            self.examples
        );
    }
}
