//! The documents: links resolve, every page can be reached, and what they say of the program is so.

mod capacity;
mod links;
mod messages;
mod semconv;
mod source;
