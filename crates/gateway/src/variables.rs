//! Variables that the expressions of several policies read alike.

use std::borrow::Cow;

use weft_expression::{
    Kind, Members, Object, Operand,
    scope::{self, any_name},
};

use crate::consumer::Consumer;

/// A consumer, as it is declared.
pub(crate) static CONSUMER: Object = Object {
    fields: &[("name", Kind::Text), ("groups", Kind::List), ("anonymous", Kind::Bool)],
    others: None,
    check: any_name,
};

/// The consumer of a request, if it comes from one.
pub(crate) struct Caller<'a>(pub(crate) Option<&'a Consumer>);

impl Members for Caller<'_> {
    fn get(&self, name: &str) -> Option<Operand<'_>> {
        let consumer = self.0?;
        Some(match name {
            "name" => Operand::Text(consumer.name().as_str().into()),
            "groups" => {
                Operand::Texts(consumer.groups().iter().map(|group| group.as_str()).collect())
            }
            "anonymous" => Operand::Bool(consumer.is_anonymous()),
            _ => return None,
        })
    }

    fn names(&self) -> Vec<Cow<'_, str>> {
        there(&CONSUMER, self)
    }
}

/// That a name is one that a header is read by.
pub(crate) fn header_name(name: &str) -> scope::Result<()> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => {
            let lower = name.to_ascii_lowercase();
            Err(format!("headers have their names in lower case: `{lower}`"))
        }
        false => any_name(name),
    }
}

/// The names of an object's fields that are there.
pub(crate) fn there<'a>(of: &'static Object, members: &dyn Members) -> Vec<Cow<'a, str>> {
    let names = of.fields.iter().map(|(name, _)| *name);
    names.filter(|name| members.get(name).is_some()).map(Cow::Borrowed).collect()
}
