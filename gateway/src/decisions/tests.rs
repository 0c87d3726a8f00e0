//! The log as a whole: pages, followers, files, and what it weighs.

use super::*;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const NOW_MS: u64 = 1_700_000_000_000;

fn decision<'a>(client: &'a str, topic: &'a str, action: Action, reason: Reason) -> Decision<'a> {
    Decision { client, topic, action, reason, count: 1 }
}

/// A refusal each, at a second's distance.
fn refuse(log: &DecisionLog, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let client = format!("c{number}");
        log.record(NOW_MS + number * 1_000, decision(&client, "", Action::Refused, Reason::ConnectRate));
    }
}

fn ids(page: &DecisionPage) -> Vec<u64> {
    page.decisions.iter().map(|decision| decision.id).collect()
}

fn all() -> DecisionQuery {
    DecisionQuery { limit: 1_000, ..DecisionQuery::default() }
}

#[test]
fn pages_are_newest_first_and_lead_from_one_to_the_next() {
    let log = DecisionLog::new(1_000);
    refuse(&log, 0..25);
    let mut query = DecisionQuery { limit: 10, ..DecisionQuery::default() };
    let mut seen = Vec::new();
    loop {
        let page = log.page(&query);
        seen.extend(ids(&page));
        // What comes meanwhile moves nothing.
        refuse(&log, 100..103);
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<_>>());
    let exactly = DecisionQuery { limit: 25, before: Some(25), ..DecisionQuery::default() };
    assert_eq!(log.page(&exactly).next, None);
}

#[test]
fn a_client_that_is_refused_for_ever_pushes_out_nothing_of_others() {
    let log = DecisionLog::new(1_000);
    refuse(&log, 0..10);
    for _ in 0..100_000 {
        log.record(NOW_MS, decision("hog", "live/1", Action::Refused, Reason::RetainedFull));
    }
    let page = log.page(&all());
    assert_eq!(page.decisions.len(), 11);
    assert_eq!(page.decisions.first().map(|newest| newest.count), Some(100_000));
}

#[test]
fn a_query_asks_for_client_reason_action_and_time_at_once() {
    let log = DecisionLog::new(1_000);
    refuse(&log, 0..10);
    log.record(NOW_MS, decision("c3", "t", Action::Shed, Reason::OverShare));
    log.record(NOW_MS, decision("c3", "", Action::Disconnected, Reason::SlowSubscriber));
    let count = |query: DecisionQuery| log.page(&query).decisions.len();
    assert_eq!(count(all()), 12);
    assert_eq!(count(DecisionQuery { client: Some("c3".to_owned()), ..all() }), 3);
    assert_eq!(count(DecisionQuery { reason: Some(Reason::ConnectRate), ..all() }), 10);
    assert_eq!(count(DecisionQuery { action: Some(Action::Shed), ..all() }), 1);
    assert_eq!(count(DecisionQuery { since_ms: Some(NOW_MS + 7_000), ..all() }), 3);
    let both = DecisionQuery {
        client: Some("c3".to_owned()),
        reason: Some(Reason::ConnectRate),
        since_ms: Some(NOW_MS),
        ..all()
    };
    assert_eq!(count(both.clone()), 1);
    let page = log.page(&all());
    assert_eq!(page.decisions.iter().filter(|decision| both.means(decision)).count(), 1);
    assert_eq!(count(DecisionQuery { client: Some("c".to_owned()), ..all() }), 0);
}

#[test]
fn what_is_alike_within_a_second_is_one_entry_with_a_count() {
    let log = DecisionLog::new(1_000);
    log.set_level(3, 0.874);
    for read in 0..50 {
        let shed = Decision { count: 4, ..decision("hog", "t", Action::Shed, Reason::OverShare) };
        log.record(NOW_MS + read, shed);
        log.record(NOW_MS + read, decision("hog", "u", Action::Shed, Reason::OverShare));
    }
    log.settle(NOW_MS + 999);
    assert_eq!(log.stats().entries, 0, "they may still grow");
    log.set_level(4, 0.95);
    log.settle(NOW_MS + 1_000);
    let page = log.page(&all());
    let shown: Vec<_> =
        page.decisions.iter().map(|one| (one.topic.as_str(), one.count, one.time_ms)).collect();
    assert_eq!(shown, [("u", 50, NOW_MS), ("t", 200, NOW_MS)]);
    assert_eq!((page.decisions[0].level, page.decisions[0].pressure), (3, 0.87), "as it was then");
    // A refusal stands for itself.
    refuse(&log, 0..1);
    refuse(&log, 0..1);
    assert_eq!(log.stats().entries, 4);
}

#[test]
fn a_page_shows_what_may_still_grow() {
    let log = DecisionLog::new(1_000);
    log.record(NOW_MS, decision("a", "t", Action::Dropped, Reason::OutboxFull));
    assert_eq!(log.page(&all()).decisions.len(), 1);
    assert_eq!(log.page(&all()).decisions.len(), 1, "and does not tell it twice");
}

#[test]
fn more_subjects_than_are_gathered_lose_nothing() {
    let log = DecisionLog::new(100_000);
    for client in 0..10_000 {
        for _ in 0..3 {
            log.record(NOW_MS, decision(&format!("c{client}"), "t", Action::Shed, Reason::OverShare));
        }
    }
    log.settle(NOW_MS + 1_000);
    let mut follower = log.follow(Some(0));
    let total: u32 = follower.take(usize::MAX).decisions.iter().map(|decision| decision.count).sum();
    assert_eq!(total, 30_000);
}

/// Looks once whether a follower has something.
fn poll(follower: &mut Follower) -> Poll<News> {
    pin!(follower.next(100)).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_follower_sees_everything_once_and_in_order() {
    let log = DecisionLog::new(1_000);
    refuse(&log, 0..3);
    let mut follower = log.follow(None);
    assert!(poll(&mut follower).is_pending(), "from now on");
    refuse(&log, 3..5);
    let news = follower.next(100).await;
    assert_eq!((news.missed, news.decisions.iter().map(|one| one.id).collect::<Vec<_>>()), (0, vec![3, 4]));
    let mut earlier = log.follow(Some(1));
    assert_eq!(earlier.next(2).await.decisions[1].id, 2);
    assert_eq!(earlier.next(2).await.decisions[0].id, 3);

    let waiting = tokio::spawn(async move { follower.next(100).await });
    tokio::task::yield_now().await;
    log.record(NOW_MS, decision("a", "t", Action::Shed, Reason::OverShare));
    log.settle(NOW_MS + 1_000);
    assert_eq!(waiting.await.unwrap().decisions[0].client, "a");
}

#[test]
fn a_follower_that_is_too_slow_is_told_how_many_it_missed() {
    let log = DecisionLog::new(100);
    let mut follower = log.follow(None);
    refuse(&log, 0..1_000);
    let news = follower.take(10);
    assert!(news.missed >= 880, "{}", news.missed);
    assert_eq!(news.missed, news.decisions[0].id);
    assert_eq!(follower.take(10).missed, 0);
    // One that knows numbers of another gateway begins with what there is.
    assert_eq!(log.follow(Some(1 << 40)).take(1).decisions[0].id, news.missed);
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_file_has_a_line_for_each_and_is_followed_by_another_when_it_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("decisions.ndjson");
    let log = DecisionLog::new(10_000);
    let options = DecisionFileOptions { path: path.clone(), bytes_max: 4_096, files: 3 };
    for round in 0..20 {
        // Dropping it writes what is there, so rounds are whole.
        let file = DecisionFile::start(&log, options.clone()).unwrap();
        refuse(&log, round * 10..round * 10 + 10);
        drop(file);
    }
    let numbered = |number| directory.path().join(format!("decisions.ndjson.{number}"));
    assert!(!numbered(3).exists(), "there are three of them");
    let kept: Vec<_> = [numbered(2), numbered(1), path]
        .iter()
        .flat_map(|path| {
            assert!(std::fs::metadata(path).unwrap().len() <= 4_096);
            lines(path)
        })
        .map(|line| line["id"].as_u64().unwrap())
        .collect();
    assert!(kept.len() >= 50, "{}", kept.len());
    assert_eq!(kept.last(), Some(&199));
    assert!(kept.windows(2).all(|pair| pair[1] == pair[0] + 1), "{kept:?}");
}

#[test]
fn a_single_file_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d");
    let log = DecisionLog::new(10_000);
    let options = DecisionFileOptions { path: path.clone(), bytes_max: 1_000, files: 1 };
    for round in 0..10 {
        let file = DecisionFile::start(&log, options.clone()).unwrap();
        refuse(&log, round * 5..round * 5 + 5);
        drop(file);
    }
    assert!(std::fs::metadata(&path).unwrap().len() <= 1_000);
    assert_eq!(lines(&path).last().unwrap()["id"], 49);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = DecisionFileOptions { path: directory.path().to_owned(), bytes_max: 1_000, files: 1 };
    assert!(DecisionFile::start(&DecisionLog::new(10), options).is_err());
}

/// Resident memory of this process in bytes; nextest gives every test its own.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_hundred_thousand_entries_take_what_is_promised() {
    let log = DecisionLog::new(100_000);
    assert_eq!(log.stats(), DecisionStats::default());
    let before = resident();
    // Names as fleets have them.
    for number in 0..300_000_u64 {
        let client = format!("device-{:06}", number % 10_000);
        let topic = format!("devices/device-{:06}/temperature", number % 10_000);
        log.record(NOW_MS + number, decision(&client, &topic, Action::Disconnected, Reason::OverShare));
    }
    let grown = resident().saturating_sub(before);
    let stats = log.stats();
    println!("{} entries, {} bytes of records, {grown} bytes resident", stats.entries, stats.bytes);
    assert!((100_000..102_000).contains(&stats.entries), "{stats:?}");
    assert_eq!(stats.recorded, 300_000);
    assert!(stats.bytes <= 100_000 * 70, "{stats:?}");
    assert!(grown < 100_000 * 128, "{grown}");
}
