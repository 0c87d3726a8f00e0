//! Pages of dead letters out of the engine.

use super::backend::{LetterCursor, LetterPage, LetterQuery, LetterView};
use crate::engine::Engine;

/// Dead letters looked at in one turn.
const TURN: usize = 1000;
/// What the dead letters of one page cost, the last one aside.
const PAGE_BYTES: u64 = 4 << 20;

/// Those after a place in their order, at most `limit`, fewer if they are large. Looks at every dead letter from there on until there are enough.
pub(super) fn page(
    engine: &Engine,
    query: &LetterQuery,
    after: Option<&LetterCursor>,
    limit: usize,
) -> LetterPage {
    let mut letters: Vec<LetterView> = Vec::new();
    let mut bytes = 0;
    for entry in engine.consumers() {
        let name = &*entry.name;
        let is_meant = query.consumer.as_deref().is_none_or(|wanted| wanted == name);
        if !is_meant || after.is_some_and(|after| name < after.consumer.as_str()) {
            continue;
        }
        let mut place = after.filter(|after| after.consumer == name).map(|after| after.offset);
        loop {
            let turn = engine.dead_letters(name, place, TURN);
            let Some(last) = turn.last() else { break };
            place = Some(last.offset());
            for letter in turn.iter().filter(|letter| query.means(letter)) {
                // One more than is wanted: then there is another page.
                if letters.len() == limit || bytes >= PAGE_BYTES {
                    let last = letters.last();
                    let next = last
                        .map(|last| LetterCursor { consumer: last.consumer.clone(), offset: last.offset });
                    return LetterPage { letters, next };
                }
                bytes += letter.cost();
                letters.push(LetterView::of(name, letter));
            }
        }
    }
    LetterPage { letters, next: None }
}
