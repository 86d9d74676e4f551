//! Whose an object is: one rule, here.
