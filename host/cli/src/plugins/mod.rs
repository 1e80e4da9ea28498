//! What the commands for plugins do on the owner's side: check one, add and remove it, run it, and run its tests.

pub(crate) mod added;
pub(crate) mod cases;
pub(crate) mod check;
pub(crate) mod single;
