//! A run as it happens: [`view`] turns numbers into lines, [`screen`] draws them in place on a terminal, or one below the other
//! where there is none. Both only look; a run goes on without them.

pub(crate) mod screen;
pub(crate) mod view;
