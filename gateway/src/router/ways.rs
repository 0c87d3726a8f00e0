//! Where the events of one read go, as it was found when they were staged, so that whoever hands them out need not ask again.

use gateway_protocol::QoS;

/// Runs of consecutive events that go the same way, in order, from the first event of a batch on.
#[derive(Debug)]
pub struct Ways<W> {
    /// What all of them are true under.
    epoch: Option<u64>,
    runs: Vec<Run<W>>,
}

/// Consecutive events that go the same way.
#[derive(Debug)]
pub struct Run<W> {
    /// How many.
    pub events: u32,
    /// The QoS they were published at.
    pub published: QoS,
    /// Where to.
    pub way: W,
}

impl<W> Default for Ways<W> {
    fn default() -> Self {
        Self { epoch: None, runs: Vec::new() }
    }
}

impl<W: Clone> Ways<W> {
    /// One more event goes `way`, which was found under `epoch`. `is_same` tells whether two ways need no second look; it may say no of
    /// equal ones.
    #[inline]
    pub fn push(&mut self, epoch: u64, published: QoS, way: &W, is_same: impl FnOnce(&W, &W) -> bool) {
        match self.runs.last_mut() {
            Some(run)
                if self.epoch == Some(epoch) && run.published == published && is_same(&run.way, way) =>
            {
                run.events += 1;
            }
            last => {
                self.epoch = (last.is_none() || self.epoch == Some(epoch)).then_some(epoch);
                self.runs.push(Run { events: 1, published, way: way.clone() });
            }
        }
    }

    /// They are not those of the batch any more.
    pub fn spoil(&mut self) {
        self.epoch = None;
    }

    /// Takes them, if they are of `epoch` and of so many events.
    pub fn take(&mut self, epoch: u64, events: usize) -> Option<impl Iterator<Item = Run<W>>> {
        let is_whole = self.runs.iter().map(|run| run.events as usize).sum::<usize>() == events;
        let is_true = self.epoch == Some(epoch) && is_whole;
        self.epoch = None;
        if !is_true {
            self.runs.clear();
        }
        is_true.then(|| self.runs.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QOS: QoS = QoS::AtLeastOnce;

    fn runs(ways: &mut Ways<char>, epoch: u64, events: usize) -> Option<Vec<(u32, QoS, char)>> {
        Some(ways.take(epoch, events)?.map(|run| (run.events, run.published, run.way)).collect())
    }

    fn push(ways: &mut Ways<char>, epoch: u64, each: &[(QoS, char)]) {
        for (qos, way) in each {
            ways.push(epoch, *qos, way, char::eq);
        }
    }

    #[test]
    fn events_of_one_way_and_qos_are_one_run() {
        let mut ways = Ways::default();
        let low = QoS::AtMostOnce;
        push(&mut ways, 7, &[(QOS, 'a'), (QOS, 'a'), (QOS, 'b'), (low, 'b'), (low, 'b'), (QOS, 'a')]);
        let expected = vec![(2, QOS, 'a'), (1, QOS, 'b'), (2, low, 'b'), (1, QOS, 'a')];
        assert_eq!(runs(&mut ways, 7, 6), Some(expected));
        push(&mut ways, 8, &[(QOS, 'c')]);
        assert_eq!(runs(&mut ways, 8, 1), Some(vec![(1, QOS, 'c')]), "what was taken is gone");
    }

    #[test]
    fn they_are_given_for_the_epoch_and_the_batch_they_are_of() {
        let mut ways = Ways::default();
        push(&mut ways, 7, &[(QOS, 'a'), (QOS, 'a')]);
        assert_eq!(runs(&mut ways, 8, 2), None, "another epoch");
        push(&mut ways, 8, &[(QOS, 'a')]);
        assert_eq!(runs(&mut ways, 8, 2), None, "another batch");
        push(&mut ways, 8, &[(QOS, 'a')]);
        push(&mut ways, 9, &[(QOS, 'a')]);
        push(&mut ways, 9, &[(QOS, 'a')]);
        assert_eq!(runs(&mut ways, 9, 3), None, "of two epochs");
        push(&mut ways, 9, &[(QOS, 'a')]);
        ways.spoil();
        assert_eq!(runs(&mut ways, 9, 1), None, "spoilt");
        push(&mut ways, 9, &[(QOS, 'a')]);
        assert_eq!(runs(&mut ways, 9, 1), Some(vec![(1, QOS, 'a')]));
    }
}
