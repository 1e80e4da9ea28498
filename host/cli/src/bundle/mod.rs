//! Debug bundles: what is known about one job, in one file, for somebody who looks for a fault elsewhere.

mod archive;
mod content;
mod mode;

pub(crate) use content::write;
