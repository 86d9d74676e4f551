//! Everything that needs neither root nor BPF objects: the formats and protocols, the HTTP server, the command line, the lookups, and
//! the rules of the source tree.

mod architecture;
mod cli;
mod compression;
mod contract;
mod corpus;
mod delivery;
mod delta;
mod dist;
mod documents;
mod encoding;
mod generated;
mod golden;
mod golden_events;
mod json_docs;
mod log;
mod logs;
mod lookup;
mod rules;
mod selection;
mod stack;
mod top;
mod transport;
mod unchanged;
mod web;
