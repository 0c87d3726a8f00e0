//! What becomes of a publish: the whole table of the ladder in one function.
//!
//! | level | QoS 0 `bulk` | QoS 0 `normal` | QoS 1 and 2, `bulk` and `normal` | `critical`, any QoS |
//! |---|---|---|---|---|
//! | L0, L1 | taken | taken | taken | taken |
//! | L2 | taken within its share | taken within its share | taken; over its share PUBACK late | taken |
//! | L3 | shed | as L2; shed where memory, buffers or the disk fill up | as L2 | taken |
//! | L4 | shed | the same | as L2; held where something fills up or has failed; some of the worst offenders disconnected after 10 s | taken |
//! | L5 | shed | shed | left unread | QoS 0 taken, others left unread |
//!
//! Static limits stand in front of it and are judged by [`super::Limits`] and [`super::Bucket`]. At L0 there is nothing to ask.

use super::class::Class;
use super::level::Level;
use super::pressure::Stance;
use super::share::{Charge, Share, Verdict};
use crate::decisions::Reason;
use gateway_protocol::QoS;

/// What becomes of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Taken; acknowledged when it is stored.
    Take,
    /// Taken; acknowledged when it is stored, and so many milliseconds from now have passed, or
    /// [`Pressure::slows`](super::Pressure::slows) says no before: who waits looks a few times in a second.
    TakeLate {
        /// [`super::LATE_MS_MAX`] at most.
        wait_ms: u64,
        /// For the record of it.
        reason: Reason,
    },
    /// Taken; acknowledged when it is stored and [`Pressure::holds_acks`](super::Pressure::holds_acks) says no. PUBACKs leave in order, so those
    /// behind it wait as well.
    TakeHeld,
    /// Given up, and counted as such; QoS 0 alone.
    Shed(Reason),
    /// Not taken, and its client told so (Quota exceeded, 0x97); QoS 1 and 2 of version 5 alone.
    Refuse(Reason),
    /// Not taken and not answered: it is left unread, or the connection that it came on is, until the level is below L5. PINGREQ is
    /// answered meanwhile, and Keep Alive does not run.
    Leave,
    /// The event is not taken and not acknowledged, and its connection closed with what [`super::reason_code`] says.
    Disconnect(Reason),
}

/// Judges one publish of a client whose share is `share`. Charges the share with it.
#[must_use]
pub fn judge(stance: Stance, class: Class, qos: QoS, share: &mut Share, charge: Charge<'_>) -> Judgement {
    if stance.level < Level::Throttle || class == Class::Critical {
        return match (stance.level, qos) {
            (Level::ReadOnly, QoS::AtLeastOnce | QoS::ExactlyOnce) => Judgement::Leave,
            _ => {
                // It is counted, and not held against anybody.
                let _ = share.charge(charge);
                Judgement::Take
            }
        };
    }
    match qos {
        QoS::AtMostOnce => at_most_once(stance, class, share, charge),
        QoS::AtLeastOnce | QoS::ExactlyOnce => acknowledged(stance, share, charge),
    }
}

/// QoS 0: taken or not, there is no later.
fn at_most_once(stance: Stance, class: Class, share: &mut Share, charge: Charge<'_>) -> Judgement {
    let shed = match (stance.level, class) {
        (Level::Normal | Level::Conserve | Level::Throttle, _) => None,
        (Level::Shed | Level::Protect, Class::Bulk) => Some(Reason::ShedBulk),
        (Level::Shed | Level::Protect, _) => stance.sheds_normal.then_some(Reason::ShedNormal),
        (Level::ReadOnly, _) => Some(Reason::ReadOnly),
    };
    let Some(reason) = shed else {
        return match share.charge_within(charge) {
            Verdict::Within => Judgement::Take,
            Verdict::Over { .. } if convicts(stance, share, charge) => {
                Judgement::Disconnect(Reason::Offender)
            }
            Verdict::Over { .. } if stance.slows => Judgement::Shed(Reason::OverShare),
            Verdict::Over { .. } => Judgement::Take,
        };
    };
    let verdict = share.note_shed(charge);
    if convicts(stance, share, charge) {
        return Judgement::Disconnect(Reason::Offender);
    }
    // Who is over its share is named for that, whatever else would have taken the event.
    Judgement::Shed(if verdict == Verdict::Within { reason } else { Reason::OverShare })
}

fn convicts(stance: Stance, share: &Share, charge: Charge<'_>) -> bool {
    stance.level == Level::Protect && share.is_convicted(charge.pressure)
}

/// QoS 1 and 2: the acknowledgement is the brake.
fn acknowledged(stance: Stance, share: &mut Share, charge: Charge<'_>) -> Judgement {
    let Stance { level, slows, holds_acks: holds, .. } = stance;
    if level == Level::ReadOnly {
        return Judgement::Leave;
    }
    let verdict = share.charge(charge);
    match (level, verdict) {
        (Level::Protect, Verdict::Over { .. }) if share.is_convicted(charge.pressure) => {
            Judgement::Disconnect(Reason::Offender)
        }
        (Level::Protect, _) if holds => Judgement::TakeHeld,
        (_, Verdict::Over { wait_ms }) if slows => Judgement::TakeLate { wait_ms, reason: Reason::OverShare },
        _ => Judgement::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pressure::Pressure;
    use super::*;
    use std::fmt::Write as _;

    const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

    fn cell(stance: Stance, class: Class, qos: QoS, is_over: bool, convicts: bool) -> String {
        let pressure = Pressure::default();
        pressure.set_share_rate(10.0);
        let charge = |now_ms, cost| Charge { now_ms, cost, pressure: &pressure };
        let mut share = Share::new(0);
        if is_over {
            share.charge(charge(0, 65.0));
        }
        if convicts {
            pressure.market.convict_above(0.5, 1);
        }
        match judge(stance, class, qos, &mut share, charge(0, 1.0)) {
            Judgement::Take => "take".to_owned(),
            Judgement::TakeLate { wait_ms, .. } => format!("late {wait_ms}"),
            Judgement::TakeHeld => "held".to_owned(),
            Judgement::Shed(reason) => reason.label().to_owned(),
            Judgement::Refuse(reason) => format!("refuse {}", reason.label()),
            Judgement::Leave => "leave".to_owned(),
            Judgement::Disconnect(reason) => format!("end: {}", reason.label()),
        }
    }

    /// Every level, class, QoS and side of the share, as a table that a change of it shows in.
    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for level in Level::ALL {
            for sheds_normal in [false, true] {
                if sheds_normal && !matches!(level, Level::Shed | Level::Protect) {
                    continue;
                }
                let stance = Stance { sheds_normal, ..Stance::at(level) };
                for class in Class::ALL {
                    let mut row = format!(
                        "L{}{} {:<8}",
                        level.as_u8(),
                        if sheds_normal { "+" } else { " " },
                        class.label()
                    );
                    for qos in QOS {
                        let within = cell(stance, class, qos, false, false);
                        let over = cell(stance, class, qos, true, false);
                        write!(row, " | {within} / {over}").unwrap();
                    }
                    writeln!(table, "{row}").unwrap();
                }
            }
        }
        let expected = "\
L0  bulk     | take / take | take / take | take / take
L0  normal   | take / take | take / take | take / take
L0  critical | take / take | take / take | take / take
L1  bulk     | take / take | take / take | take / take
L1  normal   | take / take | take / take | take / take
L1  critical | take / take | take / take | take / take
L2  bulk     | take / over_share | take / late 200 | take / late 200
L2  normal   | take / over_share | take / late 200 | take / late 200
L2  critical | take / take | take / take | take / take
L3  bulk     | shed_bulk / over_share | take / late 200 | take / late 200
L3  normal   | take / over_share | take / late 200 | take / late 200
L3  critical | take / take | take / take | take / take
L3+ bulk     | shed_bulk / over_share | take / late 200 | take / late 200
L3+ normal   | shed_normal / over_share | take / late 200 | take / late 200
L3+ critical | take / take | take / take | take / take
L4  bulk     | shed_bulk / over_share | held / held | held / held
L4  normal   | take / over_share | held / held | held / held
L4  critical | take / take | take / take | take / take
L4+ bulk     | shed_bulk / over_share | held / held | held / held
L4+ normal   | shed_normal / over_share | held / held | held / held
L4+ critical | take / take | take / take | take / take
L5  bulk     | read_only / over_share | leave / leave | leave / leave
L5  normal   | read_only / over_share | leave / leave | leave / leave
L5  critical | take / take | leave / leave | leave / leave
";
        assert_eq!(table, expected);
    }

    #[test]
    fn offenders_are_disconnected_at_l4_alone_and_never_for_what_is_critical() {
        for level in Level::ALL {
            for class in Class::ALL {
                for qos in QOS {
                    let ends = cell(Stance::at(level), class, qos, true, true) == "end: offender";
                    assert_eq!(
                        ends,
                        level == Level::Protect && class != Class::Critical,
                        "{level:?} {class:?} {qos:?}"
                    );
                    assert_ne!(cell(Stance::at(level), class, qos, false, true), "end: offender");
                }
            }
        }
    }
}
