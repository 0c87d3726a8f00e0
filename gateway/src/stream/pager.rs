//! One page of the log for one reader: from memory while it keeps up, from the disk while it does not.

use crate::engine::{Engine, PAGE_BYTES, Read};
use gateway_storage::{Batch, Offset, Page, ReadError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// Damaged groups of one page that are named one by one.
const SKIPPED_SAID: usize = 4;

/// The page a reader stands in, and the read that is under way for it, if any. Never more than one of each.
#[derive(Debug, Default)]
pub struct Pager {
    page: Option<Arc<Batch>>,
    read: Option<JoinHandle<Result<Option<Page>, ReadError>>>,
}

/// Where an offset was found.
#[derive(Debug)]
pub enum Located {
    /// In this batch, at this position.
    At(Arc<Batch>, usize),
    /// It is damaged or no longer kept; reading can go on with this offset.
    Gone(Offset),
    /// Nothing is there yet.
    End,
    /// The disk does not give it. The reader should be closed; what it has not acknowledged is still in the log.
    Failed,
}

impl Pager {
    /// Looks for the entry at `offset`. `Pending` while a page is read, or (with [`Located::End`]) until the log grows: either way the
    /// task is woken.
    pub fn locate(&mut self, engine: &Engine, offset: Offset, cx: &mut Context<'_>) -> Poll<Located> {
        if let Some(page) = &self.page
            && let Some(at) = page.index_of(offset)
        {
            return Poll::Ready(Located::At(page.clone(), at));
        }
        if self.read.is_none() {
            match engine.read(offset, cx.waker()) {
                Read::Batch(batch) => {
                    let at = batch.index_of(offset).unwrap_or(0);
                    self.page = Some(batch.clone());
                    return Poll::Ready(Located::At(batch, at));
                }
                Read::End => {
                    self.page = None;
                    return Poll::Ready(Located::End);
                }
                Read::OnDisk => {
                    let log = engine.log().clone();
                    self.page = None;
                    self.read = Some(tokio::task::spawn_blocking(move || log.read_page(offset, PAGE_BYTES)));
                }
            }
        }
        let Some(read) = &mut self.read else { return Poll::Ready(Located::End) };
        let result = std::task::ready!(Pin::new(read).poll(cx));
        self.read = None;
        Poll::Ready(self.take(offset, result))
    }

    fn take(
        &mut self,
        offset: Offset,
        result: Result<Result<Option<Page>, ReadError>, tokio::task::JoinError>,
    ) -> Located {
        match result {
            Ok(Ok(Some(page))) => {
                for skipped in page.skipped.iter().take(SKIPPED_SAID) {
                    tracing::error!(?skipped, "a damaged group of the log was passed over");
                }
                let more = page.skipped.len().saturating_sub(SKIPPED_SAID);
                if more > 0 {
                    tracing::error!(more, next = %page.next, "more damaged groups of the log were passed over");
                }
                let batch = Arc::new(page.batch);
                let located = match batch.index_of(offset) {
                    Some(at) => Located::At(batch.clone(), at),
                    None => Located::Gone(batch.offset_of(batch.index_from(offset)).unwrap_or(page.next)),
                };
                self.page = Some(batch);
                located
            }
            Ok(Ok(None)) => Located::End,
            Ok(Err(error)) => {
                tracing::error!(%error, %offset, "the log cannot be read");
                Located::Failed
            }
            // The read panicked or the runtime is going down; either way there is no page.
            Err(_) => Located::Failed,
        }
    }

    /// Gives the page back: a reader that has nothing to do owns no memory.
    pub fn release(&mut self) {
        self.page = None;
    }
}
