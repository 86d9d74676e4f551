//! How a sample leaves the program. An exporter turns a [`Sample`](crate::metrics::Sample) into bytes by visiting the table of
//! metrics; it knows formats and protocols, and neither the kernel nor any single metric. A format without a state is a
//! function `fn render(sample, …) -> String`; OTLP keeps the encoded attributes of what it has sent.

pub mod json;
pub mod otlp;
pub mod prometheus;
pub mod table;
