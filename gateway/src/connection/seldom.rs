//! What few connections have.

/// A value that few connections have, so that all others pay no more than a pointer for it.
#[derive(Debug)]
pub(super) struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Seldom<T> {
    /// The value, if there is one.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The value, if there is one.
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The value; from now on there is one.
    pub(super) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// The value, or a fresh one. There is none from now on.
    pub(super) fn take(&mut self) -> T {
        self.0.take().map_or_else(T::default, |value| *value)
    }

    /// There is none from now on.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}
