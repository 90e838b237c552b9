//! Scope: the variables that expressions of one place may name, and what is known of their types.

/// What is wrong with an expression, in a sentence for whoever has written it.
pub type Result<T> = std::result::Result<T, String>;

/// The variables of expressions of one place.
#[derive(Debug)]
pub struct Scope {
    /// Their names and types.
    pub variables: &'static [(&'static str, Kind)],
    /// What one evaluation may cost in loops: a node of a loop's body costs 4 for each turn, and 16 bytes of a
    /// variable that is read there cost 1. A million is some ten milliseconds.
    pub budget: u64,
}

/// Type of a value, or any.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// It is only known once there is a value.
    Any,
    /// True or false.
    Bool,
    /// Signed whole number of 64 bits.
    Int,
    /// Unsigned whole number of 64 bits.
    Uint,
    /// Floating-point number of 64 bits.
    Double,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Nothing.
    Null,
    /// List of values.
    List,
    /// Map of values.
    Map,
    /// Type of a value.
    Type,
    /// Value that may be absent.
    Optional,
    /// IP network, which `cidr` makes.
    Network,
    /// Variable with fields, made as they are read.
    Object(&'static Object),
}

/// What is known of the fields of a variable.
#[derive(Debug)]
pub struct Object {
    /// Fields by name.
    pub fields: &'static [(&'static str, Kind)],
    /// Type of all others; `None` if there are no others.
    pub others: Option<Kind>,
    /// Whether another field may have this name.
    pub check: fn(&str) -> Result<()>,
}

/// The check of an [`Object`] whose other fields may have any name.
///
/// # Errors
/// Never.
pub const fn any_name(_: &str) -> Result<()> {
    Ok(())
}

/// What an expression is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// Any value.
    Any,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(one), Self::Object(other)) => std::ptr::eq(*one, *other),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Kind {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::List => "list",
            Self::Map | Self::Object(_) => "map",
            Self::Type => "type",
            Self::Optional => "optional",
            Self::Network => "network",
        }
    }

    pub(crate) const fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    pub(crate) const fn is_map(self) -> bool {
        matches!(self, Self::Map | Self::Object(_))
    }

    /// Whether a value of one type may be a value of the other.
    pub(crate) fn fits(self, other: Self) -> bool {
        self == other
            || self == Self::Any
            || other == Self::Any
            || (self.is_map() && other.is_map())
    }
}

impl Scope {
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The names, for people: `event`, `headers` and `data`.
    pub(crate) fn names(&self) -> String {
        listed(self.variables)
    }
}

impl Object {
    /// What a field is.
    pub(crate) fn field(&self, field: &str) -> Result<Kind> {
        if let Some((_, kind)) = self.fields.iter().find(|(known, _)| *known == field) {
            return Ok(*kind);
        }
        let Some(kind) = self.others else {
            let near = self.fields.iter().map(|(known, _)| *known);
            let near = near.min_by_key(|known| strsim::osa_distance(known, field));
            return Err(match near.filter(|known| strsim::osa_distance(known, field) <= 2) {
                Some(near) => format!("there is no field `{field}`; did you mean `{near}`?"),
                None => format!("there is no field `{field}`; there are {}", listed(self.fields)),
            });
        };
        (self.check)(field).map(|()| kind)
    }
}

fn listed(of: &[(&str, Kind)]) -> String {
    let mut text = String::new();
    for (at, (name, _)) in of.iter().enumerate() {
        text.push_str(match at {
            0 => "",
            at if at + 1 == of.len() => " and ",
            _ => ", ",
        });
        text.push_str(&format!("`{name}`"));
    }
    text
}
