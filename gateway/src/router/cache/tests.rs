//! What a cache answers is what was found under the epoch, whatever was asked before.

use super::*;
use std::collections::HashSet;

#[test]
fn a_set_and_a_topic_are_one_line_of_memory_each() {
    assert_eq!((size_of::<Set>(), size_of::<Topic>()), (64, 64));
}

#[test]
fn an_answer_lives_as_long_as_its_epoch() {
    let mut cache = RouteCache::new(8);
    assert_eq!(cache.get_or_find(1, b"a", || 1), 1);
    assert_eq!(cache.get_or_find(1, b"a", || 2), 1);
    assert_eq!(cache.get_or_find(1, b"b", || 3), 3);
    assert_eq!(cache.get_or_find(1, b"a", || 4), 1);
    assert_eq!(cache.get_or_find(2, b"a", || 5), 5);
    assert_eq!(cache.get_or_find(1, b"a", || 6), 6, "an epoch that comes back is another one");
}

/// How many of `count` topics in turn are answered without being found, once it has settled.
fn hits(cache: &mut RouteCache<usize>, count: usize) -> usize {
    let topics: Vec<String> = (0..count).map(|number| format!("devices/{number}/state")).collect();
    for _ in 0..16 {
        for topic in &topics {
            cache.get_or_find(0, topic.as_bytes(), || 7);
        }
    }
    let mut hits = count;
    for topic in &topics {
        cache.get_or_find(0, topic.as_bytes(), || {
            hits -= 1;
            7
        });
    }
    hits
}

#[test]
fn topics_in_turn_are_answered_as_far_as_there_is_room() {
    for (topics, at_least) in
        [(2_000, 1_990), (3_000, 2_880), (4_096, 3_400), (6_000, 2_800), (20_000, 1_500)]
    {
        let mut cache = RouteCache::new(4_096);
        let hits = hits(&mut cache, topics);
        assert!(hits >= at_least, "{hits} of {topics}");
        assert!(cache.topics.len() <= 4_096 && cache.taken <= 4_096);
        assert_eq!(cache.answers.different(), 1, "one answer for all of them");
    }
}

#[test]
fn what_is_asked_for_now_takes_the_place_of_what_was_asked_for() {
    let mut cache = RouteCache::new(64);
    hits(&mut cache, 1_000);
    let mut found = 0;
    for _ in 0..2_000 {
        for topic in [b"a", b"b", b"c"] {
            cache.get_or_find(0, topic, || {
                found += 1;
                7
            });
        }
    }
    assert!(found < 200, "{found}");
}

#[test]
fn memory_is_that_of_few_topics_while_there_are_few() {
    let mut cache = RouteCache::new(1 << 20);
    assert_eq!(cache.topics.capacity(), 0);
    hits(&mut cache, 100);
    assert!(cache.topics.len() <= 256, "{}", cache.topics.len());
}

#[test]
fn long_topics_are_kept_within_a_bound() {
    let long = |number: usize| format!("{}/{number}", "x".repeat(1_000));
    let mut cache = RouteCache::new(64);
    for epoch in 0..4 {
        for number in 0..500 {
            assert_eq!(
                cache.get_or_find(epoch, long(number % 100).as_bytes(), || number % 100),
                number % 100
            );
            let held: usize = cache.topics.iter().map(Topic::long_bytes).sum();
            assert_eq!(held, cache.long_bytes);
            assert!(held <= 64 * LONG_BYTES_EACH);
        }
        assert!(cache.long_bytes > 0, "some are kept in each epoch");
    }
}

#[test]
fn an_answer_is_let_go_of_with_its_last_topic_and_with_its_epoch() {
    use std::sync::Arc;
    let answers: Vec<Arc<usize>> = (0..1_000).map(Arc::new).collect();
    let held = || answers.iter().filter(|answer| Arc::strong_count(answer) > 1).count();
    let mut cache = RouteCache::new(64);
    for _ in 0..20 {
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(cache.get_or_find(0, number.to_string().as_bytes(), || answer.clone()), *answer);
        }
    }
    assert!((32..=64).contains(&held()), "{}", held());
    cache.get_or_find(1, b"0", || Arc::new(0));
    assert_eq!(held(), 0);
}

#[test]
fn topics_that_were_looked_for_are_where_they_were_guessed() {
    let topics: Vec<String> = (0..3_000).map(|number| format!("devices/{number}/state")).collect();
    let mut cache = RouteCache::new(4_096);
    hits(&mut cache, topics.len());
    assert!(cache.wants_to_look_ahead());
    let (mut guessed, mut asked) = (0, 0);
    for some in topics.chunks(20) {
        cache.look_ahead(some.iter().map(String::as_bytes));
        for topic in some {
            asked += 1;
            guessed += usize::from(!cache.wants_to_look_ahead());
            assert_eq!(cache.get_or_find(0, topic.as_bytes(), || 7), 7);
        }
    }
    // One that is not known ends the guesses of its chunk.
    assert!(guessed > asked / 2, "{guessed} of {asked}");
}

/// Against a table that remembers everything, over random topics, lengths and epochs.
#[test]
fn no_answer_is_another_topic_s_or_another_epoch_s() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut cache = RouteCache::new(128);
    let mut epoch = 0;
    let mut asked = HashSet::new();
    for _ in 0..20_000 {
        let some: Vec<_> = (0..10).map(|_| if next(2) == 0 { next(20) } else { next(600) }).collect();
        let some =
            some.into_iter().map(|number| (number, "y".repeat((number % 90) as usize) + &number.to_string()));
        let mut some: Vec<_> = some.collect();
        if next(2) == 0 {
            cache.look_ahead(some.iter().map(|(_, topic)| topic.as_bytes()));
            if next(4) == 0 {
                some.remove(next(10) as usize);
            }
        }
        for (number, topic) in some {
            if next(5_000) == 0 {
                epoch += 1;
            }
            asked.insert((epoch, number));
            // Several topics have one answer.
            let right = (epoch, number / 3);
            assert_eq!(cache.get_or_find(epoch, topic.as_bytes(), || right), right);
        }
    }
    assert!(asked.len() > 1_000);
}
