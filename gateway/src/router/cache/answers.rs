//! The different answers among those of many topics, each held once.

/// Answers compared with a new one. A fleet's topics have a handful of different answers, or each has its own.
const COMPARED: usize = 4;

/// Answers by number, each with how many topics it is the answer of.
#[derive(Debug)]
pub(super) struct Answers<R> {
    held: Vec<Held<R>>,
    free: Vec<u32>,
    newest: [u32; COMPARED],
}

#[derive(Debug)]
struct Held<R> {
    /// `None` where the number is free.
    answer: Option<R>,
    topics: u32,
}

impl<R: PartialEq> Answers<R> {
    pub(super) const fn new() -> Self {
        Self { held: Vec::new(), free: Vec::new(), newest: [u32::MAX; COMPARED] }
    }

    pub(super) fn get(&self, number: u32) -> Option<&R> {
        self.held.get(number as usize)?.answer.as_ref()
    }

    /// The number of `answer` for one more topic: that of an equal one if one of the newest is, or a new one.
    pub(super) fn hold(&mut self, answer: R) -> u32 {
        for number in self.newest {
            if let Some(held) = self.held.get_mut(number as usize)
                && held.answer.as_ref() == Some(&answer)
            {
                held.topics += 1;
                return number;
            }
        }
        let new = Held { answer: Some(answer), topics: 1 };
        let number = match self.free.pop() {
            Some(number) => number,
            // No more answers than topics are held, whose number fits.
            None => u32::try_from(self.held.len()).unwrap_or(u32::MAX),
        };
        match self.held.get_mut(number as usize) {
            Some(held) => *held = new,
            None => self.held.push(new),
        }
        self.newest.rotate_right(1);
        if let Some(first) = self.newest.first_mut() {
            *first = number;
        }
        number
    }

    /// One topic less has this answer.
    pub(super) fn release(&mut self, number: u32) {
        let Some(held) = self.held.get_mut(number as usize) else { return };
        held.topics = held.topics.saturating_sub(1);
        if held.topics == 0 && held.answer.take().is_some() {
            self.free.push(number);
        }
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.free.clear();
        self.newest = [u32::MAX; COMPARED];
    }

    #[cfg(test)]
    pub(super) fn different(&self) -> usize {
        self.held.len() - self.free.len()
    }
}
