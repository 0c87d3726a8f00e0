//! Bitmaps over a moving range of sequence numbers: one row of words per 64 events, one word per fact.

use std::collections::VecDeque;

/// Events in one row.
pub(super) const ROW_EVENTS: u32 = u64::BITS;

/// The facts kept for every event; the subscribers' follow, one word each.
#[derive(Clone, Copy)]
pub(super) enum Fact {
    /// Handed to the client.
    Issued,
    /// Published with QoS 1 rather than 0.
    Assured,
    /// Written to the connection.
    Sent,
    /// Acknowledged with success.
    Acknowledged,
    /// Refused with a Reason Code.
    Rejected,
}

/// The facts kept for every event of a device that publishes to the broker of its site; they follow the subscribers'.
#[derive(Clone, Copy)]
pub(super) enum SiteFact {
    /// The site's broker acknowledged it.
    Acknowledged,
    /// The site's uplink wrote it to its connection.
    Forwarded,
}

/// How many of these words a row has.
const SITE_FACTS: usize = SiteFact::Forwarded as usize + 1;

/// How many words a row has before those of the subscribers.
const FACTS: usize = Fact::Rejected as usize + 1;

/// A bit's position: its row from the window's start and its mask in the row's words.
#[derive(Clone, Copy)]
pub(super) struct Place {
    row: usize,
    mask: u64,
}

/// The window itself.
#[derive(Debug)]
pub(super) struct Window {
    words: VecDeque<u64>,
    /// Words per row.
    stride: usize,
    /// Of these: the subscribers'.
    subscribers: usize,
    /// The sequence number of the first row's first bit, a multiple of [`ROW_EVENTS`].
    base: u32,
}

impl Window {
    pub(super) fn new(subscribers: usize, at_site: bool) -> Self {
        let stride = FACTS + subscribers + if at_site { SITE_FACTS } else { 0 };
        Window { words: VecDeque::new(), stride, subscribers, base: 0 }
    }

    pub(super) fn base(&self) -> u32 {
        self.base
    }

    pub(super) fn rows(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Makes room for a sequence number; none for one that the window has left behind.
    pub(super) fn extend_to(&mut self, sequence: u32) -> Option<Place> {
        let row = (sequence.checked_sub(self.base)? / ROW_EVENTS) as usize;
        if row >= self.rows() {
            self.words.resize((row + 1) * self.stride, 0);
        }
        self.place(sequence)
    }

    /// Where a sequence number lies, if the window covers it.
    pub(super) fn place(&self, sequence: u32) -> Option<Place> {
        let from_base = sequence.checked_sub(self.base)?;
        let row = (from_base / ROW_EVENTS) as usize;
        (row < self.rows()).then(|| Place { row, mask: 1 << (from_base % ROW_EVENTS) })
    }

    pub(super) fn set(&mut self, place: Place, fact: Fact) {
        self.set_word(place, fact as usize);
    }

    /// Only for a window with these facts.
    pub(super) fn set_at_site(&mut self, place: Place, fact: SiteFact) {
        let column = FACTS + self.subscribers + fact as usize;
        if column < self.stride {
            self.set_word(place, column);
        }
    }

    pub(super) fn has(&self, place: Place, fact: Fact) -> bool {
        self.row(place.row).fact(fact) & place.mask != 0
    }

    /// Notes a delivery; false if it was noted before.
    pub(super) fn deliver(&mut self, place: Place, subscriber: usize) -> bool {
        let seen = self.row(place.row).delivered(subscriber) & place.mask != 0;
        self.set_word(place, FACTS + subscriber);
        !seen
    }

    pub(super) fn row(&self, row: usize) -> Row<'_> {
        Row {
            words: &self.words,
            start: row * self.stride,
            stride: self.stride,
            subscribers: self.subscribers,
        }
    }

    pub(super) fn drop_first_row(&mut self) {
        let stride = self.stride.min(self.words.len());
        self.words.drain(..stride);
        self.base = self.base.saturating_add(ROW_EVENTS);
    }

    fn set_word(&mut self, place: Place, column: usize) {
        if let Some(word) = self.words.get_mut(place.row * self.stride + column) {
            *word |= place.mask;
        }
    }
}

/// One row, read.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    words: &'a VecDeque<u64>,
    start: usize,
    stride: usize,
    subscribers: usize,
}

impl Row<'_> {
    pub(super) fn fact(&self, fact: Fact) -> u64 {
        self.word(fact as usize)
    }

    pub(super) fn delivered(&self, subscriber: usize) -> u64 {
        self.word(FACTS + subscriber)
    }

    /// Nothing in a window without these facts.
    pub(super) fn at_site(&self, fact: SiteFact) -> u64 {
        self.word(FACTS + self.subscribers + fact as usize)
    }

    /// Written to the connection, or proved to have been by what came back.
    pub(super) fn sent(&self) -> u64 {
        let at_site = self.at_site(SiteFact::Acknowledged);
        self.fact(Fact::Issued) & (self.fact(Fact::Sent) | at_site | self.left_site())
    }

    /// Written to a connection to the broker by the site's uplink, or proved to have been by what came back.
    pub(super) fn left_site(&self) -> u64 {
        let delivered = (FACTS..FACTS + self.subscribers).fold(0, |any, column| any | self.word(column));
        let answered = self.fact(Fact::Acknowledged) | self.fact(Fact::Rejected);
        self.at_site(SiteFact::Forwarded) | answered | delivered
    }

    fn word(&self, column: usize) -> u64 {
        if column < self.stride { self.words.get(self.start + column).copied().unwrap_or(0) } else { 0 }
    }
}
