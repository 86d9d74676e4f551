//! The documents of the API: readings as JSON. Entry point: [`documents`]; what their URLs mean is in [`parameters`].

pub(in crate::web) mod documents;
pub(in crate::web) mod parameters;
pub(in crate::web) mod related;
