//! OTLP export: samples are encoded as requests ([`encode`]), queued ([`queue`]) and sent ([`transport`]).
//! Entry points: [`produce()`] fills the queues of several destinations at each interval, [`deliver()`] empties one of them. Neither
//! blocks the other, and no destination another: the producer waits for one only as long as its interval allows.

mod deliver;
pub mod encode;
pub mod ledger;
mod produce;
pub mod queue;
pub mod resource;
pub mod settings;
pub mod transport;

pub use self::deliver::{DeliverySettings, RequestLimit, deliver};
pub use self::produce::{Lane, Pace, produce};
