//! The screen of `top`. State and view are apart: [`state::State`] has all behaviour and knows no terminal, [`view::draw`] draws it and
//! decides nothing, [`source`] delivers readings, and [`terminal`] has the terminal.
//!
//! Independent of how a reading of the host is taken: the program wires that.

pub mod source;
pub mod state;
pub mod terminal;
pub mod view;

#[cfg(test)]
mod tests;
