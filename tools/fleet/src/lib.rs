//! Plays many nodes against a real OpenTelemetry Collector with real stores behind it, with the encoding and the delivery of the program
//! itself, and measures what each part costs. Entry points: [`runs::Part::run`] measures, [`report`] writes the page of it.
//!
//! Apart from the product: nothing of it is shipped. Everything is on the loopback interface, with files in a temporary directory, and
//! ends with the run.

pub mod conditions;
pub mod expressions;
pub mod figures;
pub mod fleet;
pub mod front;
pub mod interrupt;
pub mod node;
pub mod plot;
pub mod process;
pub mod receivers;
pub mod report;
pub mod runs;
pub mod sender;
