//! What a route has in a local handler or in a policy of another crate: a name, and settings that only
//! they understand.

use std::{any::Any, fmt, sync::Arc};

/// Settings of a local handler or a policy, made by the configuration. The request path can tell whether they are
/// still the same and show them to people: what [`Display`](fmt::Display) says is where requests go.
pub trait Settings: Any + fmt::Debug + fmt::Display + Send + Sync {
    /// Whether others are of the same kind and say the same.
    fn is_same(&self, other: &dyn Settings) -> bool;
}

impl<T: Any + PartialEq + fmt::Debug + fmt::Display + Send + Sync> Settings for T {
    fn is_same(&self, other: &dyn Settings) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref() == Some(self)
    }
}

/// A local handler or a policy by its name, and what it is told.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The name of the handler.
    pub handler: &'static str,
    settings: Arc<dyn Settings>,
}

impl Binding {
    /// Binds to a handler with settings.
    pub fn new(handler: &'static str, settings: impl Settings) -> Self {
        Self { handler, settings: Arc::new(settings) }
    }

    /// The settings, if they are of this kind.
    ///
    /// # Errors
    /// That they are of another kind, for whoever compiles the plan.
    pub fn settings<T: Any + Clone>(&self) -> Result<T, String> {
        let settings: &dyn Any = &*self.settings;
        let settings = settings.downcast_ref::<T>().cloned();
        settings.ok_or_else(|| format!("`{}` is told what is meant for another", self.handler))
    }
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.handler == other.handler && self.settings.is_same(&*other.settings)
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_the_same_by_kind_and_value() {
        let one = Binding::new("echo", 1_u32);
        assert_eq!(one, Binding::new("echo", 1_u32));
        for other in
            [Binding::new("echo", 2_u32), Binding::new("echo", 1_u64), Binding::new("other", 1_u32)]
        {
            assert_ne!(one, other);
        }
        assert_eq!((one.settings::<u32>(), one.to_string()), (Ok(1), "1".to_owned()));
        assert!(one.settings::<u64>().is_err());
    }
}
