//! A compiled expression, and what comes of it.

use std::fmt;

use cel::{
    Context, ExecutionError, Value,
    common::{
        ast::IdedExpr,
        types::{CelBool, CelDouble, CelInt, CelUInt},
        value::{CowVal, Val},
    },
};

use crate::{
    bounds, functions, lower,
    scope::{Result, Scope, Wanted},
    types,
    value::{Bound, Variables, json},
};

/// The longest text of an expression in bytes.
pub const BYTES_MAX: usize = 4096;

/// A compiled expression.
pub struct Expression {
    root: IdedExpr,
    constants: Vec<Box<dyn Val>>,
    budget: u64,
    text: Box<str>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence: that it is not CEL, is too much, or can only fail.
    pub fn compile(text: &str, scope: &'static Scope, wanted: Wanted) -> Result<Self> {
        Self::read(text, scope, Some(wanted))
    }

    /// Compiles a text that was taken before, maybe by an earlier version: what would be refused today may fail
    /// each time it is worked out instead.
    ///
    /// # Errors
    /// That it cannot be read, or is too much.
    pub fn compile_again(text: &str, scope: &'static Scope) -> Result<Self> {
        Self::read(text, scope, None)
    }

    fn read(text: &str, scope: &'static Scope, wanted: Option<Wanted>) -> Result<Self> {
        if text.len() > BYTES_MAX {
            return Err("an expression has at most 4 KiB".into());
        }
        if bounds::depth(text) > bounds::DEPTH_MAX {
            return Err("the expression is nested deeper than 32".into());
        }
        let environment = functions::environment();
        let program = environment.compile(text);
        let program = program.map_err(|error| format!("the expression is not CEL: {error}"))?;
        let mut root = program.expression().clone();
        bounds::check(&root, 0, false)?;
        bounds::names(&root, scope)?;
        let context = Context::with_env(environment);
        if let Some(wanted) = wanted {
            types::check(&root, scope, wanted, &context)?;
        }
        let constants = lower::lower(&mut root, scope, &context);
        Ok(Self { root, constants, budget: scope.budget, text: text.into() })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// That it fails, or gives something else.
    pub fn is_true(&self, variables: &dyn Variables) -> std::result::Result<bool, Failure> {
        self.work_out(variables, |value| {
            value.downcast_ref::<CelBool>().map(|truth| *truth.inner())
        })
    }

    /// The number that it gives.
    ///
    /// # Errors
    /// That it fails, or gives something else.
    pub fn number(&self, variables: &dyn Variables) -> std::result::Result<f64, Failure> {
        #[expect(clippy::cast_precision_loss, reason = "costs and sizes are far below 2^53")]
        self.work_out(variables, |value| {
            let double = value.downcast_ref::<CelDouble>().map(|number| *number.inner());
            let int = || value.downcast_ref::<CelInt>().map(|number| *number.inner() as f64);
            let uint = || value.downcast_ref::<CelUInt>().map(|number| *number.inner() as f64);
            double.or_else(int).or_else(uint)
        })
    }

    /// The value that it gives, as JSON.
    ///
    /// # Errors
    /// That it fails, or gives what JSON cannot say: bytes, an optional, a number that is none, a variable as a whole.
    pub fn json(
        &self,
        variables: &dyn Variables,
    ) -> std::result::Result<serde_json::Value, Failure> {
        self.work_out(variables, |value| json(&**value))
    }

    fn work_out<T>(
        &self,
        variables: &dyn Variables,
        read: impl FnOnce(&CowVal<'_, '_>) -> Option<T>,
    ) -> std::result::Result<T, Failure> {
        functions::budget(self.budget);
        let bound = Bound { variables, constants: &self.constants };
        let mut context = Context::with_env(functions::environment());
        context.set_variable_resolver(&bound);
        match Value::resolve_val(&self.root, &context) {
            Ok(value) => read(&value).ok_or_else(|| Failure::Type(value.get_type().name().into())),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// What went wrong, without any value that was looked at.
    #[cold]
    fn failure(&self, error: ExecutionError) -> Failure {
        match error {
            // A name that the text writes itself; one that was worked out may be a secret.
            ExecutionError::NoSuchKey(key) if self.text.contains(&**key) => {
                Failure::Absent(key.as_str().into())
            }
            ExecutionError::UndeclaredReference(name) => {
                Failure::Absent(name.trim_start_matches('@').into())
            }
            ExecutionError::FunctionError { function, .. } if function == functions::CHARGE => {
                Failure::TooLong
            }
            _ => Failure::Failed,
        }
    }
}

/// Why an expression gave nothing. It never holds a value that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It reads something that is not there.
    Absent(Box<str>),
    /// It reads something as one that stands there more than once.
    Several(Box<str>),
    /// It gives a value of this type, which is not what is wanted.
    Type(Box<str>),
    /// It would take too long.
    TooLong,
    /// It fails in another way: values that do not go together, a division by zero and the like.
    Failed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(name) => write!(f, "`{name}` is not there"),
            Self::Several(name) => write!(f, "`{name}` stands there more than once"),
            Self::Type(kind) => write!(f, "it gives a {kind}"),
            Self::TooLong => f.write_str("it would take too long"),
            Self::Failed => f.write_str("its values do not go together"),
        }
    }
}

impl std::error::Error for Failure {}
