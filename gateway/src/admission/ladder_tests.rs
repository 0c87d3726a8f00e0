use super::*;
use proptest::prelude::*;

const STEP_MS: u64 = 100;

fn pressed(pressure: f64) -> Pressures {
    Pressures::default().with(Resource::Commit, pressure)
}

/// The ladder fed with pressures 100 ms apart; the levels after each.
fn levels(ladder: &mut Ladder, from_ms: u64, pressures: &[f64]) -> Vec<u8> {
    levels_by(Resource::Commit, ladder, from_ms, pressures)
}

fn levels_by(resource: Resource, ladder: &mut Ladder, from_ms: u64, pressures: &[f64]) -> Vec<u8> {
    let mut now_ms = from_ms;
    let mut seen = Vec::new();
    for pressure in pressures {
        now_ms += STEP_MS;
        ladder.sample(now_ms, &Pressures::default().with(resource, *pressure), Faults::default());
        seen.push(ladder.level().as_u8());
    }
    seen
}

fn shed(ladder: &Ladder) -> (Level, bool) {
    (ladder.level(), ladder.stance().sheds_normal)
}

#[test]
fn it_rises_after_two_samples_to_what_both_demand() {
    let mut ladder = Ladder::new(LadderOptions::default());
    assert_eq!(levels(&mut ladder, 0, &[0.60, 0.59, 0.61, 0.60]), [0, 0, 0, 1]);
    assert_eq!(levels(&mut ladder, 400, &[0.93, 0.80]), [1, 2], "the lower of the two counts");
    assert_eq!(levels(&mut ladder, 600, &[0.86, 0.95, 0.95]), [2, 3, 4], "the one before was 0.80");
    assert_eq!(levels(&mut ladder, 900, &[1.0, 1.0]), [4, 4], "no pressure leads to L5");
}

#[test]
fn one_bad_sample_moves_nothing() {
    let mut ladder = Ladder::new(LadderOptions::default());
    for round in 0..50 {
        assert_eq!(levels(&mut ladder, round * 200, &[1.0, 0.1]), [0, 0]);
    }
}

#[test]
fn the_step_says_what_led_to_it() {
    let mut ladder = Ladder::new(LadderOptions::default());
    let pressures = pressed(0.7).with(Resource::Disk, 0.88);
    assert_eq!(ladder.sample(0, &pressures, Faults::default()), None);
    let change = ladder.sample(100, &pressures, Faults::default());
    let expected = LevelChange {
        from: Level::Normal,
        to: Level::Shed,
        resource: Resource::Disk,
        pressure: 0.88,
        fault: None,
    };
    assert_eq!(change, Some(expected));
    assert_eq!(ladder.sample(200, &pressures, Faults::default()), None);
}

#[test]
fn it_falls_one_level_after_five_seconds_below_and_after_one_where_a_fault_is_over() {
    let falls = |pressure: f64, faults: Faults| {
        let mut ladder = Ladder::new(LadderOptions::default());
        ladder.sample(0, &pressed(pressure), faults);
        ladder.sample(100, &pressed(pressure), faults);
        let mut steps = vec![(100, ladder.level().as_u8())];
        for now_ms in (200..60_000).step_by(100) {
            if let Some(change) = ladder.sample(now_ms, &pressed(0.1), Faults::default()) {
                assert_eq!(change.to, change.from.below());
                steps.push((now_ms, change.to.as_u8()));
            }
        }
        steps
    };
    // The first sample below is at 200.
    let by_pressure = falls(1.0, Faults::default());
    assert_eq!(by_pressure, [(100, 4), (5_200, 3), (10_200, 2), (15_200, 1), (20_200, 0)]);
    let fault = Faults { disk_full: true, ..Faults::default() };
    let by_fault = falls(0.1, fault);
    assert_eq!(by_fault, [(100, 5), (1_200, 4), (2_200, 3), (3_200, 2), (4_200, 1), (5_200, 0)]);
}

#[test]
fn what_a_fault_led_to_and_a_pressure_keeps_is_left_as_slowly_as_the_pressure_asks() {
    let mut ladder = Ladder::new(LadderOptions::default());
    let fault = Faults { disk_full: true, ..Faults::default() };
    ladder.sample(0, &pressed(0.1), fault);
    ladder.sample(100, &pressed(0.1), fault);
    // One second after the fault it comes to L4, where the pressure is by now.
    levels(&mut ladder, 200, &[0.95; 20]);
    assert_eq!(ladder.level(), Level::Protect);
    let falls = levels(&mut ladder, 2_200, &[0.1; 60]);
    assert_eq!(falls.iter().position(|level| *level == 3), Some(50));
}

#[test]
fn a_sample_at_the_threshold_begins_the_five_seconds_anew() {
    let mut ladder = Ladder::new(LadderOptions::default());
    levels(&mut ladder, 0, &[0.76, 0.76]);
    let mut samples = vec![0.1; 49];
    samples.push(0.75);
    samples.extend([0.1; 50]);
    let seen = levels(&mut ladder, 200, &samples);
    assert!(seen.iter().all(|level| *level == 2), "{seen:?}");
    assert_eq!(levels(&mut ladder, 10_200, &[0.1]), [1]);
}

#[test]
fn faults_lead_where_no_pressure_does() {
    for (faults, level, resource, fault) in [
        (
            Faults { log_failed: true, ..Faults::default() },
            Level::ReadOnly,
            Resource::Commit,
            Fault::LogFailed,
        ),
        (Faults { disk_full: true, ..Faults::default() }, Level::ReadOnly, Resource::Disk, Fault::DiskFull),
        (
            Faults { commit_stalled: true, ..Faults::default() },
            Level::Protect,
            Resource::Commit,
            Fault::CommitStalled,
        ),
        (
            Faults { disk_high_water: true, ..Faults::default() },
            Level::Protect,
            Resource::Disk,
            Fault::DiskHighWater,
        ),
    ] {
        let mut ladder = Ladder::new(LadderOptions::default());
        assert_eq!(ladder.sample(0, &pressed(0.2), faults), None, "one sample moves nothing here either");
        let change = ladder.sample(100, &pressed(0.2), faults).unwrap();
        assert_eq!((change.to, change.resource, change.fault), (level, resource, Some(fault)));
    }
    // Where the pressure alone leads as far, it is the pressure that did.
    let mut ladder = Ladder::new(LadderOptions::default());
    let faults = Faults { commit_stalled: true, ..Faults::default() };
    ladder.sample(0, &pressed(0.95), faults);
    assert_eq!(ladder.sample(100, &pressed(0.95), faults).unwrap().fault, None);
}

#[test]
fn where_something_fills_up_normal_events_follow_bulk_ones_within_l3_and_by_the_same_rule() {
    let mut ladder = Ladder::new(LadderOptions::default());
    let levels = |ladder: &mut Ladder, from_ms, pressures: &[f64]| {
        levels_by(Resource::Memory, ladder, from_ms, pressures)
    };
    levels(&mut ladder, 0, &[0.86, 0.86]);
    assert_eq!(shed(&ladder), (Level::Shed, false));
    levels(&mut ladder, 200, &[0.89, 0.86, 0.89]);
    assert!(!ladder.stance().sheds_normal, "never two in a row");
    levels(&mut ladder, 500, &[0.89]);
    assert_eq!(shed(&ladder), (Level::Shed, true));
    levels(&mut ladder, 600, &[0.87; 50]);
    assert!(ladder.stance().sheds_normal);
    levels(&mut ladder, 5_600, &[0.87]);
    assert_eq!(shed(&ladder), (Level::Shed, false));
    levels(&mut ladder, 5_700, &[0.89, 0.89]);
    assert!(ladder.stance().sheds_normal);
    let seen = levels(&mut ladder, 5_900, &[0.2; 51]);
    assert_eq!((seen.last(), ladder.stance().sheds_normal), (Some(&2), false), "below L3 it means nothing");
}

#[test]
fn where_time_is_short_nobody_is_shed_or_held_within_its_share() {
    for resource in [Resource::Commit, Resource::LoopLag, Resource::Oldest] {
        let mut ladder = Ladder::new(LadderOptions::default());
        levels_by(resource, &mut ladder, 0, &[1.0; 10]);
        assert_eq!(shed(&ladder), (Level::Protect, false));
        assert!(!ladder.stance().holds_acks, "late is enough");
    }
    let mut ladder = Ladder::new(LadderOptions::default());
    let faults = Faults { commit_stalled: true, ..Faults::default() };
    ladder.sample(0, &pressed(0.5), faults);
    ladder.sample(100, &pressed(0.5), faults);
    assert_eq!(shed(&ladder), (Level::Protect, true), "nothing is stored");
}

#[test]
fn a_sampler_that_was_not_run_and_a_clock_that_jumps_bring_nothing_down() {
    let mut ladder = Ladder::new(LadderOptions::default());
    levels(&mut ladder, 0, &[0.8, 0.8]);
    ladder.sample(300, &pressed(0.1), Faults::default());
    ladder.sample(100_000, &pressed(0.1), Faults::default());
    ladder.sample(50, &pressed(0.1), Faults::default());
    assert_eq!(ladder.level(), Level::Throttle, "a minute and a half without samples counts for one second");
    for step in 1..=4 {
        ladder.sample(50 + step * 1_000, &pressed(0.1), Faults::default());
    }
    assert_eq!(ladder.level(), Level::Conserve);
}

#[test]
fn within_its_five_seconds_a_level_neither_slows_nor_holds_where_there_is_room() {
    let mut ladder = Ladder::new(LadderOptions::default());
    let mut stance = |pressure| {
        ladder.sample(0, &Pressures::default().with(Resource::Disk, pressure), Faults::default());
        let Stance { level, slows, holds_acks, .. } = ladder.stance();
        (level.as_u8(), slows, holds_acks)
    };
    assert_eq!(stance(0.95), (0, false, false));
    assert_eq!(stance(0.95), (4, true, true));
    assert_eq!(stance(0.91), (4, true, false));
    assert_eq!(stance(0.61), (4, true, false));
    assert_eq!(stance(0.59), (4, false, false));
    assert_eq!(stance(0.93), (4, true, true));
}

#[test]
fn where_delivery_falls_behind_there_is_no_room_but_no_level_is_kept_for_it() {
    let mut ladder = Ladder::new(LadderOptions::default());
    let mut stance = |now_ms, pressure, growth| {
        let pressures = Pressures::default().with(Resource::Commit, pressure).with_lag_growth(growth);
        ladder.sample(now_ms, &pressures, Faults::default());
        (ladder.stance().level.as_u8(), ladder.stance().slows)
    };
    stance(0, 0.8, 0.3);
    assert_eq!(stance(100, 0.8, 0.3), (2, true));
    assert_eq!(stance(200, 0.1, 0.3), (2, true));
    assert_eq!(stance(300, 0.1, 0.0), (2, false));
    let after = (400..=5_300).step_by(100).map(|now_ms| stance(now_ms, 0.1, 0.3)).last();
    assert_eq!(after, Some((1, false)), "after five seconds without pressure");
}

#[test]
fn switched_off_it_stays_where_it_is() {
    let mut ladder = Ladder::new(LadderOptions { enabled: false, ..LadderOptions::default() });
    let faults = Faults { log_failed: true, ..Faults::default() };
    for now_ms in (0..10_000).step_by(100) {
        assert_eq!(ladder.sample(now_ms, &pressed(1.0), faults), None);
    }
    assert_eq!(ladder.level(), Level::Normal);
}

/// Some seconds of one pressure, or of noise around it.
fn loads() -> impl Strategy<Value = Vec<(f64, f64, usize)>> {
    prop::collection::vec((0.0..1.0_f64, 0.0..0.3_f64, 1_usize..80), 1..12)
}

proptest! {
    #[test]
    fn it_never_oscillates_faster_than_the_hysteresis_allows(
        loads in loads(),
        noise in prop::collection::vec(-1.0..1.0_f64, 64),
        gaps in prop::collection::vec(20_u64..400, 16),
        faulty in prop::collection::vec(any::<bool>(), 8),
    ) {
        let options = LadderOptions::default();
        let mut ladder = Ladder::new(options);
        let demanded = |pressure: f64| options.thresholds.iter().filter(|at| pressure >= **at).count() as u8;
        let mut now_ms = 0;
        let mut history: Vec<(u64, u8)> = Vec::new();
        let mut fell_ms: Option<u64> = None;
        let mut had_fault = false;
        for (load, (middle, swing, samples)) in loads.into_iter().enumerate() {
            for sample in 0..samples {
                now_ms += gaps[sample % gaps.len()];
                let pressure = (middle + swing * noise[(load * 31 + sample) % noise.len()]).clamp(0.0, 1.0);
                let faults = Faults { disk_full: faulty[load % 8] && sample % 3 != 0, ..Faults::default() };
                had_fault |= faults.disk_full;
                let fall_after_ms = if had_fault { options.fault_fall_after_ms } else { options.fall_after_ms };
                let before = ladder.level();
                let demand = if faults.disk_full { 5 } else { demanded(pressure) };
                history.push((now_ms, demand));
                let change = ladder.sample(now_ms, &pressed(pressure), faults);
                let after = ladder.level();
                prop_assert_eq!(change.is_some(), before != after);
                if after > before {
                    // Two samples in a row demanded it.
                    let last: Vec<u8> = history.iter().rev().take(2).map(|(_, demand)| *demand).collect();
                    prop_assert!(last.len() == 2 && last.iter().all(|demand| *demand >= after.as_u8()));
                } else if after < before {
                    prop_assert_eq!(after, before.below());
                    // Every sample of that time demanded less.
                    let since = now_ms - fall_after_ms;
                    prop_assert!(history.iter().filter(|(at, _)| *at >= since).all(|(_, demand)| *demand < before.as_u8()));
                    prop_assert!(fell_ms.is_none_or(|fell| now_ms - fell >= fall_after_ms));
                    fell_ms = Some(now_ms);
                }
                // What two samples demand is never refused.
                let agreed = history.iter().rev().take(2).map(|(_, demand)| *demand).min().unwrap_or(0);
                prop_assert!(history.len() < 2 || after.as_u8() >= agreed);
                prop_assert!(!ladder.stance().sheds_normal || after >= Level::Shed);
            }
        }
    }
}
