//! Dead letters, for those who look after them: handed to their consumer again, or removed.

use super::manage::{ConsumerError, Consumers, stage};
use crate::clock;
use crate::engine::{Cause, ConsumerEntry, DeadLetter, LettersChange};
use gateway_protocol::{TopicFilter, TopicName};
use gateway_storage::{Entry, Staging};
use std::sync::Arc;

/// Dead letters dealt with in one entry.
const TOGETHER: usize = 500;

/// Which dead letters of a consumer.
#[derive(Clone, Debug)]
pub enum Letters {
    /// All.
    All,
    /// Those of the events at these offsets.
    Offsets(Vec<u64>),
    /// Those that match.
    Matching {
        /// With this cause, by its word.
        cause: Option<Box<str>>,
        /// Under topics that match this Topic Filter.
        filter: Option<Box<str>>,
    },
}

impl Consumers {
    /// Hands dead letters to their consumer again, `rate_per_s` of them each second; 0: all at once. How many. Under pressure it waits.
    ///
    /// # Errors
    /// [`ConsumerError`]; some may have been redriven then.
    pub async fn redrive(&self, name: &str, which: Letters, rate_per_s: u32) -> Result<u64, ConsumerError> {
        self.relieved().await;
        let begin_ms = clock::unix_ms();
        let mut count = 0u64;
        self.each(
            name,
            &which,
            |letter| !letter.is_redriven(),
            |offsets| {
                let items: Vec<(u64, u64)> = offsets
                    .iter()
                    .map(|offset| {
                        let wait_ms = (count * 1000).checked_div(u64::from(rate_per_s)).unwrap_or(0);
                        count += 1;
                        (*offset, begin_ms.saturating_add(wait_ms))
                    })
                    .collect();
                LettersChange::Redriven(items)
            },
        )
        .await
    }

    /// Removes dead letters, also those that are under way again. How many.
    ///
    /// # Errors
    /// [`ConsumerError`]; some may have been removed then.
    pub async fn purge(&self, name: &str, which: Letters) -> Result<u64, ConsumerError> {
        self.each(name, &which, |_| true, |offsets| LettersChange::Purged(offsets.iter().copied().collect()))
            .await
    }

    /// Changes the letters that are meant and wanted, in batches, and lets the consumer know.
    async fn each(
        &self,
        name: &str,
        which: &Letters,
        wanted: impl Fn(&DeadLetter) -> bool,
        mut change: impl FnMut(&[u64]) -> LettersChange,
    ) -> Result<u64, ConsumerError> {
        let entry = self.engine().consumer(name).ok_or(ConsumerError::NotFound)?;
        let mut listed = match which {
            Letters::Offsets(offsets) => offsets.clone(),
            Letters::All | Letters::Matching { .. } => Vec::new(),
        };
        listed.sort_unstable();
        listed.dedup();
        let (mut after, mut count) = (None, 0);
        loop {
            let letters: Vec<Arc<DeadLetter>> = match which {
                Letters::Offsets(_) => {
                    let next = listed.drain(..listed.len().min(TOGETHER));
                    let next: Vec<u64> = next.collect();
                    if next.is_empty() {
                        return Ok(count);
                    }
                    next.into_iter().filter_map(|offset| self.engine().dead_letter(name, offset)).collect()
                }
                Letters::All | Letters::Matching { .. } => {
                    let letters = self.engine().dead_letters(name, after, TOGETHER);
                    let Some(last) = letters.last() else { return Ok(count) };
                    after = Some(last.offset());
                    letters
                }
            };
            let meant = letters.iter().filter(|letter| which.means(letter) && wanted(letter));
            let offsets: Vec<u64> = meant.map(|letter| letter.offset()).collect();
            if offsets.is_empty() {
                continue;
            }
            let change = change(&offsets);
            let mut staging = Staging::new();
            let entry_change = change.encode();
            stage(
                &mut staging,
                &Entry::DeadLettersChanged { name, at_ms: clock::unix_ms(), change: &entry_change },
            )?;
            self.engine().store(&mut staging).await?;
            count += offsets.len() as u64;
            self.tell(&entry, &offsets);
        }
    }

    /// What has become of letters is known to the view, and now to the consumer.
    fn tell(&self, entry: &ConsumerEntry, offsets: &[u64]) {
        let Some(consumer) = self.get(&entry.name) else { return };
        consumer.shared.change(|inner| {
            let state = entry.state();
            if state.spec.generation != inner.spec.generation {
                return;
            }
            for offset in offsets {
                match state.open.get(offset) {
                    Some(item) if item.is_letter => inner.core.redrive(*offset, item, clock::unix_ms()),
                    Some(_) => {}
                    None => inner.core.purged(*offset),
                }
            }
        });
    }
}

impl Letters {
    /// Whether a letter is one of them, once it is listed.
    fn means(&self, letter: &DeadLetter) -> bool {
        let Self::Matching { cause, filter } = self else { return true };
        let has_cause = |word: &str| letter.cause().as_str() == word || is_failure(letter.failure(), word);
        let is_under =
            |filter: &str| match (TopicFilter::parse(filter), TopicName::parse(letter.event().topic)) {
                (Ok(filter), Ok(name)) => filter.matches(name),
                _ => false,
            };
        cause.as_deref().is_none_or(has_cause) && filter.as_deref().is_none_or(is_under)
    }
}

fn is_failure(failure: Option<Cause>, word: &str) -> bool {
    failure.is_some_and(|failure| failure.as_str() == word)
}
