//! Expressions in CEL, the Common Expression Language, with bounds.
//!
//! A [`Scope`] says which variables there are; [`Expression::compile`] checks a text against it, and
//! [`Expression::is_true`], [`Expression::number`] and [`Expression::json`] work it out over [`Variables`], which are asked for what the
//! expression reads and for nothing else. This is the only room that knows the `cel` crate.
//!
//! Invariants: what can only fail is refused when it is compiled; a text has at most [`BYTES_MAX`] bytes and a
//! nesting of 32; no loop stands within another, and every loop pays for its turns, before it begins, out of the
//! scope's budget; a regular expression is written out, compiled once and bounded in size; an error never shows a
//! value. Deliberately absent: functions that look at a clock or at chance, and any that a user brings.
//!
//! Reading order: [`scope`], `expression`, `bounds`, `types`, `lower`, `value`, `functions`.

mod bounds;
mod expression;
mod functions;
mod lower;
pub mod scope;
mod types;
mod value;

pub use expression::{BYTES_MAX, Expression, Failure};
pub use scope::{Kind, Object, Scope, Wanted};
pub use value::{Document, Members, Operand, Variables};

#[cfg(test)]
mod tests;
