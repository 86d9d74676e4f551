//! OTLP export: samples are encoded as requests ([`encode`]), queued ([`queue`]) and sent ([`transport`]).
//! Entry points: [`produce()`] fills the queue at each interval, [`deliver()`] empties it. Neither blocks the other: the
//! producer waits for the delivery only as long as its interval allows.

mod deliver;
pub mod encode;
pub mod ledger;
mod produce;
pub mod queue;
pub mod resource;
pub mod settings;
pub mod transport;
mod wire;

pub use self::deliver::deliver;
pub use self::produce::produce;
