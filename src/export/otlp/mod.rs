//! OTLP export: samples and events are encoded as requests ([`encode`]), queued ([`queue`]) and sent ([`transport`]).
//! Entry points: [`produce()`] fills the queues of several destinations at each interval, [`produce_logs()`] those of logs with events
//! as they come, [`deliver()`] empties one of them. None blocks another, no destination another, and no signal another: the producer of
//! metrics waits for a destination only as long as its interval allows, that of logs for none.

mod deliver;
pub mod encode;
pub mod ledger;
mod produce;
mod produce_logs;
pub mod queue;
pub mod resource;
pub mod settings;
mod ticks;
pub mod transport;

pub use self::deliver::{DeliverySettings, RequestLimit, deliver};
pub use self::produce::{Lane, Pace, produce};
pub use self::produce_logs::{LogLane, produce_logs};
