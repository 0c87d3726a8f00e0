//! Restoring the view at start: what was saved, and over it the tail of the log.

use super::apply::Applier;
use super::snapshot::{IllegibleRow, Loader};
use super::{EngineError, PAGE_BYTES};
use gateway_storage::{LogReader, Offset, Table, View, ViewError};

/// Loads `view` into `applier`'s table and applies every later entry of the log.
///
/// A view that can not be read is set aside and everything is applied from the log's beginning: slow, but nothing is lost.
pub(super) fn restore(applier: &mut Applier, view: View, log: &dyn LogReader) -> Result<View, EngineError> {
    let view = match load(&view) {
        Ok(loader) => restore_sessions(applier, loader, view)?,
        Err(reason) => view.replace_broken(reason)?.0,
    };
    replay(applier, view.applied().max(log.bounds().0), log)?;
    Ok(view)
}

fn load(view: &View) -> Result<Loader, ViewError> {
    let mut loader = Loader::default();
    for table in [Table::Sessions, Table::Pending] {
        view.scan(table, &mut |key, value| loader.add(table, key, value))?;
    }
    Ok(loader)
}

fn restore_sessions(applier: &mut Applier, loader: Loader, view: View) -> Result<View, EngineError> {
    match loader.finish() {
        Ok(sessions) => {
            for (client_id, state) in sessions {
                applier.restore(&client_id, state);
            }
            Ok(view)
        }
        Err(IllegibleRow { table, key }) => {
            Ok(view.replace_broken(ViewError::Corrupt { table: Some(table), key })?.0)
        }
    }
}

fn replay(applier: &mut Applier, from: Offset, log: &dyn LogReader) -> Result<(), EngineError> {
    let mut at = from;
    while let Some(page) = log.read_page(at, PAGE_BYTES)? {
        for skipped in &page.skipped {
            tracing::error!(?skipped, "a damaged part of the log was passed over");
        }
        applier.apply(&page.batch, at);
        at = page.next;
    }
    applier.announce();
    Ok(())
}
