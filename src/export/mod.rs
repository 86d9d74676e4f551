//! Exporters: each turns a [`Sample`](crate::metrics::Sample) into bytes by visiting the table of metrics. They are independent
//! of the kernel and of any single metric. A stateless format is a function `fn render(sample, …) -> String`; OTLP keeps the
//! encoded attributes of the series it has sent.

pub mod console;
pub mod csv;
pub mod event_text;
pub mod events;
pub mod human;
pub mod json;
pub mod json_stream;
pub mod otlp;
pub mod prometheus;
pub mod recording;
pub mod series;
pub mod table;
mod wire;
