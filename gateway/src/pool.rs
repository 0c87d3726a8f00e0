//! Working state that belongs to threads, not to connections: as many pieces as threads, borrowed for a moment.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A fixed number of equal pieces. With as many pieces as threads a borrower does not wait.
#[derive(Debug)]
pub struct Pool<T> {
    first: Mutex<T>,
    others: Box<[Mutex<T>]>,
}

impl<T> Pool<T> {
    /// `size` pieces, at least one.
    #[must_use]
    pub fn new(size: usize, mut make: impl FnMut() -> T) -> Self {
        Self { first: Mutex::new(make()), others: (1..size).map(|_| Mutex::new(make())).collect() }
    }

    /// Borrows a free piece, or waits for one. Never to be held across an await.
    pub fn borrow(&self) -> MutexGuard<'_, T> {
        let free =
            std::iter::once(&self.first).chain(&self.others).find_map(|piece| match piece.try_lock() {
                Ok(guard) => Some(guard),
                // Scratch state: whoever borrows it begins by clearing it.
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            });
        free.unwrap_or_else(|| self.first.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
