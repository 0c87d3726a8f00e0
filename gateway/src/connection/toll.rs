//! What a publish has to pass while there is not enough for all: the client's own rates, its fair share, and what the level does to it.
//!
//! A connection has an account ([`Toll`]) from its first publish under pressure on, or where a rate is set for it; at L0 without rates
//! none of this is touched. What is decided in one read is gathered ([`Pressed`]) and told once: to the brake, and to the decision log.

use super::Context;
use super::brake::{Brake, FLOOD_PAUSE};
use super::turnstile::Standing;
use crate::admission::{
    Appetite, Charge, Class, Judgement, Level, Membership, Scope, Share, Stance, Throttle, cost, judge,
    reason_code,
};
use crate::clock;
use crate::decisions::{Action, Decision, Reason};
use gateway_protocol::packet::Publish;
use gateway_protocol::{QoS, ReasonCode};
use std::sync::{Mutex, PoisonError};

/// Topics of one read that are told apart in the decision log; the others are told together.
const TOPICS_MAX: usize = 16;

/// The longest topic that is remembered with its class.
const KNOWN_TOPIC_BYTES_MAX: usize = 128;

/// So many events given up in one read are a flood: the next read waits.
const FLOOD: usize = 16;

/// Rates that the publishers of one listener share.
pub type ListenerRates = Mutex<Throttle>;

/// One client's account.
pub(super) struct Toll {
    membership: Membership,
    share: Share,
    /// It has brought something critical, which is not to wait with what else it brings.
    brings_critical: bool,
    /// The topic of its last event, and what that is: most devices have one, and whoever floods floods it.
    topic: String,
    class: Class,
    /// What is left of the client's own rates, if it has any.
    throttle: Option<Throttle>,
    /// What it brings in its turns.
    appetite: Appetite,
    /// It stands in line to read, or was let in.
    pub(super) standing: Option<Standing>,
}

/// What a read under pressure has led to so far.
pub(super) struct Pressed {
    pub(super) stance: Stance,
    now_ms: u64,
    late_ms: u64,
    /// The same, for rates that hold for what is critical, too.
    rate_ms: u64,
    unread: bool,
    /// Events given up.
    shed: usize,
    is_held: bool,
    has_critical: bool,
    given_up: Vec<(Box<str>, Action, Reason, u32)>,
}

/// Whose publishes are judged.
#[derive(Clone, Copy)]
pub(super) struct Publisher<'a> {
    pub(super) context: &'a Context,
    /// The rates of its listener.
    pub(super) listener: Option<&'a ListenerRates>,
    pub(super) client_id: &'a str,
    /// It can be told that a publish was not taken.
    pub(super) can_refuse: bool,
}

impl Publisher<'_> {
    /// Its account, which begins now if it has none.
    pub(super) fn toll<'t>(&self, toll: &'t mut Option<Box<Toll>>, pressed: &Pressed) -> &'t mut Toll {
        toll.get_or_insert_with(|| Toll::new(self.context, self.client_id, pressed.now_ms))
    }
}

/// What becomes of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Taken,
    /// Given up. Only at QoS 0.
    Shed(Reason),
    /// Not taken, and its client told so. Only above QoS 0.
    Refused(Reason, ReasonCode),
    /// The connection is closed for what it brings.
    Ends(Reason, ReasonCode),
}

impl Pressed {
    /// For one read; `None` while there is nothing to judge.
    pub(super) fn begin(
        context: &Context,
        listener: Option<&ListenerRates>,
        now_ms: u64,
    ) -> Option<Box<Self>> {
        let stance = context.pressure.stance();
        let judges =
            stance.level > Level::Normal || !context.admission.client.is_unlimited() || listener.is_some();
        judges.then(|| {
            Box::new(Self {
                stance,
                now_ms,
                late_ms: 0,
                rate_ms: 0,
                unread: false,
                shed: 0,
                is_held: false,
                has_critical: false,
                given_up: Vec::new(),
            })
        })
    }

    fn note(&mut self, topic: &str, action: Action, reason: Reason) {
        let same = |(known, was, why, _): &&mut (Box<str>, Action, Reason, u32)| {
            (*was, *why) == (action, reason) && **known == *topic
        };
        if let Some((.., count)) = self.given_up.iter_mut().find(same) {
            *count += 1;
        } else if self.given_up.len() < TOPICS_MAX {
            self.given_up.push((topic.into(), action, reason, 1));
        } else if let Some((.., count)) =
            self.given_up.iter_mut().rev().find(|(_, was, why, _)| (*was, *why) == (action, reason))
        {
            *count += 1;
        } else {
            self.given_up.push((topic.into(), action, reason, 1));
        }
    }

    /// Does what was judged of one publish. `by_rate`: for a rate of its own, which holds whatever the class.
    fn carry_out(&mut self, judgement: Judgement, publish: &Publish<'_>, by_rate: bool) -> Passage {
        match judgement {
            Judgement::Take => {}
            Judgement::TakeLate { wait_ms, reason } => {
                self.note(publish.topic, Action::Throttled, reason);
                let late_ms = if by_rate { &mut self.rate_ms } else { &mut self.late_ms };
                *late_ms = wait_ms.max(*late_ms);
            }
            Judgement::TakeHeld => {
                self.note(publish.topic, Action::Throttled, Reason::AcksHeld);
                self.is_held = true;
            }
            Judgement::Shed(reason) => {
                self.note(publish.topic, Action::Shed, reason);
                self.shed += 1;
                // A flood that is given up as it comes costs its decoding all the same.
                self.unread |= self.shed >= FLOOD;
                return Passage::Shed(reason);
            }
            Judgement::Refuse(reason) => {
                self.note(publish.topic, Action::Refused, reason);
                return Passage::Refused(reason, ReasonCode::QuotaExceeded);
            }
            // It was left unread where it needs the log.
            Judgement::Leave => {}
            Judgement::Disconnect(reason) => {
                let action = if publish.qos == QoS::AtMostOnce { Action::Shed } else { Action::Refused };
                self.note(publish.topic, action, reason);
                return Passage::Ends(reason, reason_code(reason));
            }
        }
        Passage::Taken
    }

    /// Notes that something of this client is left unread because nothing can be stored.
    pub(super) fn leave(&mut self, topic: &str) {
        self.note(topic, Action::Throttled, Reason::ReadOnly);
        self.is_held = true;
    }

    /// Tells the decision log, and what the acknowledgements of this read wait for.
    pub(super) fn settle(
        &self,
        context: &Context,
        client: &str,
        unix_ms: u64,
        brake: &mut Option<Box<Brake>>,
    ) {
        for (topic, action, reason, count) in &self.given_up {
            let decision = Decision { client, topic, action: *action, reason: *reason, count: *count };
            context.decisions.record(unix_ms, decision);
        }
        let waits = !self.has_critical && (self.late_ms > 0 || self.is_held);
        if !waits && self.rate_ms == 0 && !self.unread {
            if let (true, Some(brake)) = (self.has_critical, brake) {
                brake.lift();
            }
            return;
        }
        let brake = brake.get_or_insert_with(Brake::new);
        if self.has_critical {
            brake.lift();
        }
        if self.rate_ms > 0 {
            brake.late(self.rate_ms);
        }
        if self.late_ms > 0 && !self.has_critical {
            brake.over_share(self.late_ms);
        }
        if self.unread {
            brake.unread(FLOOD_PAUSE);
        }
        if self.is_held && !self.has_critical {
            brake.hold_from(self.stance.level);
        }
    }
}

impl Toll {
    fn new(context: &Context, client_id: &str, now_ms: u64) -> Box<Self> {
        let rates = context.admission.client;
        let membership = context.classes.membership(client_id);
        Box::new(Self {
            membership,
            share: Share::new(now_ms),
            brings_critical: false,
            topic: String::new(),
            class: context.classes.of(membership, ""),
            throttle: (!rates.is_unlimited()).then(|| Throttle::new(rates, Scope::Client, now_ms)),
            appetite: Appetite::new(now_ms),
            standing: None,
        })
    }

    /// It has brought something critical.
    pub(super) const fn brings_critical(&self) -> bool {
        self.brings_critical
    }

    /// Judges one publish, received in `bytes` bytes.
    pub(super) fn pass(
        &mut self,
        of: &Publisher<'_>,
        publish: &Publish<'_>,
        bytes: usize,
        pressed: &mut Pressed,
    ) -> Passage {
        let context = of.context;
        let (now_ms, qos) = (pressed.now_ms, publish.qos);
        let over_rate = context.admission.over_rate;
        let by_rate = |throttle: &mut Throttle| throttle.judge(now_ms, bytes, qos, over_rate, of.can_refuse);
        let own = self.throttle.as_mut().and_then(by_rate);
        let by_rate =
            own.or_else(|| by_rate(&mut of.listener?.lock().unwrap_or_else(PoisonError::into_inner)));
        if let Some(judgement) = by_rate {
            let passage = pressed.carry_out(judgement, publish, true);
            if passage != Passage::Taken {
                return passage;
            }
        }
        if pressed.stance.level == Level::Normal {
            return Passage::Taken;
        }
        if pressed.stance.level == Level::ReadOnly && qos != QoS::AtMostOnce {
            // What needs the log was left unread.
            return Passage::Taken;
        }
        let class = self.class_of(context, publish.topic);
        self.brings_critical |= class == Class::Critical;
        pressed.has_critical |= class == Class::Critical && qos != QoS::AtMostOnce;
        let charge = Charge { now_ms, cost: cost(bytes, 1), pressure: &context.pressure };
        self.appetite.bring(charge.cost);
        let judgement = judge(pressed.stance, class, qos, &mut self.share, charge);
        // What it brings next comes together with what follows: being woken for each event that is given up costs as much as taking it.
        pressed.unread |= judgement == Judgement::Shed(Reason::OverShare) && !self.brings_critical;
        pressed.carry_out(judgement, publish, false)
    }

    /// It had its turn, which was cut short if there was more to read. Told, and not too often, if it wants far more than the others.
    pub(super) fn end_turn(&mut self, context: &Context, client: &str, is_cut: bool) {
        let turns = self.appetite.end_turn(clock::monotonic().0, is_cut, context.pressure.equal_part());
        if let Some(count) = turns {
            context.decide(client, &self.topic, Action::Throttled, Reason::OverTurn, count.get());
        }
    }

    fn class_of(&mut self, context: &Context, topic: &str) -> Class {
        if self.topic == topic {
            return self.class;
        }
        let class = context.classes.of(self.membership, topic);
        if topic.len() <= KNOWN_TOPIC_BYTES_MAX {
            self.class = class;
            self.topic.clear();
            self.topic.push_str(topic);
        }
        class
    }

    /// Charges the fan-out of a read, which is known behind it.
    pub(super) fn charge_deliveries(&mut self, context: &Context, pressed: &Pressed, deliveries: usize) {
        if pressed.stance.level > Level::Normal && deliveries > 0 {
            let charge = Charge {
                now_ms: pressed.now_ms,
                cost: cost(0, deliveries) - cost(0, 0),
                pressure: &context.pressure,
            };
            let _ = self.share.charge(charge);
        }
    }
}
