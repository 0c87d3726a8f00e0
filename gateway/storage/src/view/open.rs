//! Opening the view, giving it up, and opening it again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread;

use sled::Config;

use super::error::{guarded, panicked};
use super::value::{APPLIED_KEY, FORMAT_KEY, UNFINISHED_KEY, VIEW_FORMAT};
use super::{View, ViewError, ViewOptions, lock, set_aside, value};
use crate::offset::Offset;

/// sled's segment size: a quarter of it, 4 MiB, is what one page may have before it goes to a file that is never
/// synced. Part of the format of a store: it cannot be changed later.
pub(super) const SEGMENT_BYTES: usize = 16 << 20;

/// What opening the view found.
#[derive(Debug)]
pub struct ViewOpenReport {
    /// Up to which offset the view is applied.
    pub applied: Offset,
    /// A view that could not be used: where it was set aside to, and why.
    pub set_aside: Option<SetAside>,
}

/// A view that was moved out of the way.
#[derive(Debug)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// Why it could not be used.
    pub reason: ViewError,
}

impl View {
    /// Opens the view in `dir`, which need not exist. One that cannot be opened, or has another format, is set aside
    /// and a fresh one is opened in its place; the report says so, and the whole log is to be replayed.
    /// [`crate::recovery::open`] does better where there are checkpoints.
    ///
    /// # Errors
    ///
    /// When the view itself is not to blame: somebody else has it open, a newer version wrote it, there is no space, no
    /// permission, no file descriptor. And when a broken view cannot be set aside, or not even a fresh one be opened.
    pub fn open(dir: impl AsRef<Path>, options: ViewOptions) -> Result<(Self, ViewOpenReport), ViewError> {
        let dir = dir.as_ref();
        match Self::open_existing(dir, options) {
            Ok(view) => {
                let applied = view.applied();
                Ok((view, ViewOpenReport { applied, set_aside: None }))
            }
            Err(ViewError::Unfinished) => {
                let view = Self::open_empty(dir, options)?;
                Ok((view, ViewOpenReport { applied: Offset::ZERO, set_aside: None }))
            }
            Err(reason) if reason.is_the_views_fault(dir) => {
                let set_aside = Some(Self::set_aside(dir, reason)?);
                let view = Self::open_empty(dir, options)?;
                Ok((view, ViewOpenReport { applied: Offset::ZERO, set_aside }))
            }
            Err(reason) => Err(reason),
        }
    }

    /// Opens the view in `dir`, or a fresh one where there is none, and sets nothing aside.
    pub(crate) fn open_existing(dir: &Path, options: ViewOptions) -> Result<Self, ViewError> {
        if !lock::wait_until_free(dir) {
            return Err(ViewError::InUse { dir: dir.into() });
        }
        let mut view = Self::open_store(dir, options)?;
        view.check_format()?;
        let applied = view.get_number(&APPLIED_KEY)?;
        view.fresh = applied.is_none();
        view.applied = AtomicU64::new(applied.unwrap_or(0));
        Ok(view)
    }

    /// Opens a fresh view in the place of whatever is in `dir`.
    pub(crate) fn open_empty(dir: &Path, options: ViewOptions) -> Result<Self, ViewError> {
        if !lock::wait_until_free(dir) {
            return Err(ViewError::InUse { dir: dir.into() });
        }
        set_aside::remove_if_there(dir)?;
        Self::open_existing(dir, options)
    }

    /// Whether nothing has ever been saved in it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Moves what lies in `dir` out of the way. Nobody may have it open.
    pub(crate) fn set_aside(dir: &Path, reason: ViewError) -> Result<SetAside, ViewError> {
        let path = set_aside::set_aside(dir)?;
        tracing::error!(%reason, path = %path.display(), "the view is of no use; it is set aside and rebuilt");
        Ok(SetAside { path, reason })
    }

    /// Closes the view for good.
    pub(crate) fn close(self) -> Result<(PathBuf, ViewOptions), ViewError> {
        self.give_up()?;
        Ok((self.dir, self.options))
    }

    /// Opens the store again after it has failed. Readers are told [`ViewError::Closed`] meanwhile, and for as long as
    /// it does not succeed.
    pub(super) fn reopen(&self) -> Result<(), ViewError> {
        self.give_up()?;
        let again = Self::open_existing(&self.dir, self.options)?;
        let (saved, found) = (self.applied(), again.applied());
        if found < saved {
            return Err(ViewError::LostSaves { saved, found });
        }
        let db = again.db.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = db;
        // What the store had failed to report as saved may have been saved.
        self.applied.store(found.get(), Ordering::Release);
        Ok(())
    }

    /// Lets go of the store. sled writes to its directory by name when it is closed, so that must be over before the
    /// name is given away or opened again.
    fn give_up(&self) -> Result<(), ViewError> {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        guarded(|| {
            drop(db);
            Ok(())
        })?;
        if lock::wait_until_free(&self.dir) {
            Ok(())
        } else {
            Err(ViewError::InUse { dir: self.dir.clone() })
        }
    }

    /// Opens the store and looks at nothing in it.
    pub(super) fn open_store(dir: &Path, options: ViewOptions) -> Result<Self, ViewError> {
        let config = Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None);
        // A thread of its own, so that whatever a panic leaves behind in sled's thread locals goes with it.
        let opened = thread::Builder::new()
            .name("view-open".to_owned())
            .spawn(move || guarded(|| config.open()))
            .map_err(|source| ViewError::Io { doing: "start a thread for", path: dir.into(), source })?
            .join();
        let db = opened.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))?;
        let db = RwLock::new(Some(db));
        Ok(Self { db, dir: dir.into(), options, applied: AtomicU64::new(0), fresh: true })
    }

    /// Records the format in an empty store and refuses another one.
    fn check_format(&self) -> Result<(), ViewError> {
        if self.with(|db| db.iter().next().transpose())?.is_none() {
            let sealed = value::seal(&FORMAT_KEY, &VIEW_FORMAT.to_le_bytes());
            return self.with(|db| db.insert(FORMAT_KEY, sealed)).map(drop);
        }
        let found = self.get_number(&FORMAT_KEY)?.unwrap_or(0);
        if found > VIEW_FORMAT {
            return Err(ViewError::NewerFormat { dir: self.dir.clone(), found, known: VIEW_FORMAT });
        }
        if self.get_checked(&UNFINISHED_KEY)?.is_some() {
            return Err(ViewError::Unfinished);
        }
        if found == VIEW_FORMAT { Ok(()) } else { Err(ViewError::Format { found, known: VIEW_FORMAT }) }
    }
}
