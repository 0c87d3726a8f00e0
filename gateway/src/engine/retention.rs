//! How far the log may be trimmed, and who holds it there.
//!
//! The log is needed by streams (from where they begin), by sessions (from the oldest message that waits), and by a start that finds the
//! view lost (from the older checkpoint on). The least of these is where it may be trimmed to. Messages of a backlog that refer to
//! Retained Messages hold nothing: those are in a table of their own.
//!
//! Pure: offsets in, an offset and a name out. Who finds out the offsets, and when, is [`super::trimming`].

use gateway_storage::Offset;

/// Who needs the oldest part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: it can be trimmed to its end.
    #[default]
    Nothing,
    /// The stream with this name keeps it.
    Stream(Box<str>),
    /// The durable session of the client with this identifier has not acknowledged it.
    Session(Box<str>),
    /// It is not covered by checkpoints of the view yet.
    Checkpoint,
}

impl Holder {
    /// The label of the metric, out of a closed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Stream(_) => "stream",
            Self::Session(_) => "session",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nobody"),
            Self::Stream(name) => write!(f, "the stream \"{name}\""),
            Self::Session(client_id) => {
                write!(
                    f,
                    "the session of the client \"{client_id}\", which has not acknowledged its messages"
                )
            }
            Self::Checkpoint => f.write_str("the next checkpoint of the view, which is not written yet"),
        }
    }
}

/// What the log is needed for.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// The end of what was applied: nobody can need less.
    pub(super) end: Offset,
    /// Streams that have something, and from where on they need the log.
    pub(super) streams: Vec<(Box<str>, Offset)>,
    /// The session that reaches back farthest, if one has anything pending.
    pub(super) session: Option<(Box<str>, Offset)>,
    /// What the checkpoints that may have to be used cover.
    pub(super) checkpoint: Offset,
}

/// How far to trim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Everything below may go.
    pub(super) before: Offset,
    /// Who needs what is at `before`.
    pub(super) holder: Holder,
    /// How far it could be trimmed if the checkpoints covered everything.
    pub(super) without_checkpoint: Offset,
}

impl Needs {
    /// The least of all.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan { before: self.end, ..Plan::default() };
        for (name, from) in &self.streams {
            plan.hold(*from, || Holder::Stream(name.clone()));
        }
        if let Some((client_id, from)) = &self.session {
            plan.hold(*from, || Holder::Session(client_id.clone()));
        }
        plan.without_checkpoint = plan.before;
        plan.hold(self.checkpoint, || Holder::Checkpoint);
        plan
    }
}

impl Plan {
    fn hold(&mut self, from: Offset, holder: impl FnOnce() -> Holder) {
        if from < self.before {
            self.before = from;
            self.holder = holder();
        }
    }
}

/// Up to where sessions give up what waits for them, when they hold a log that is nearly full: a sixteenth of the log at a time, but
/// never what something else needs anyway.
pub(super) fn cut_before(earliest: Offset, oldest_pending: Offset, needs: &Needs) -> Offset {
    let length = needs.end.get().saturating_sub(earliest.get());
    let step = (length / 16).max(1);
    let before = oldest_pending.max(earliest).get().saturating_add(step);
    let others = needs.streams.iter().map(|(_, from)| from.get()).fold(needs.end.get(), u64::min);
    Offset::new(before.min(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(offset: u64) -> Offset {
        Offset::new(offset)
    }

    fn needs() -> Needs {
        Needs {
            end: offset(1000),
            streams: vec![("a".into(), offset(400)), ("b".into(), offset(300))],
            session: Some(("pump".into(), offset(200))),
            checkpoint: offset(900),
        }
    }

    #[test]
    fn the_least_of_all_needs_holds_the_log() {
        let plan = needs().plan();
        assert_eq!((plan.before, plan.holder), (offset(200), Holder::Session("pump".into())));
        let plan = Needs { session: None, ..needs() }.plan();
        assert_eq!((plan.before, plan.holder), (offset(300), Holder::Stream("b".into())));
        let plan = Needs { checkpoint: offset(0), ..needs() }.plan();
        assert_eq!((plan.before, plan.holder), (offset(0), Holder::Checkpoint));
        assert_eq!(plan.without_checkpoint, offset(200));
    }

    #[test]
    fn what_nobody_needs_can_be_trimmed_to_the_end() {
        let plan = Needs { end: offset(7), checkpoint: offset(7), ..Needs::default() }.plan();
        assert_eq!((plan.before, plan.holder), (offset(7), Holder::Nothing));
        let plan = Needs { session: Some(("a".into(), offset(50))), ..Needs::default() }.plan();
        assert_eq!(plan.before, offset(0), "nobody can need less than there is");
    }

    #[test]
    fn a_cut_goes_on_from_the_last_one_and_stops_at_what_streams_keep() {
        let needs = needs();
        assert_eq!(cut_before(offset(200), offset(200), &needs), offset(250));
        assert_eq!(cut_before(offset(200), offset(250), &needs), offset(300));
        assert_eq!(cut_before(offset(200), offset(300), &needs), offset(300), "the streams need the rest");
    }
}
