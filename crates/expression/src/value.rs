//! Values of variables, which are made when an expression reads them.

use std::{borrow::Cow, collections::HashMap, fmt, sync::OnceLock};

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer, Iterable, Iterator as Elements, Sizer},
        types::{
            CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString,
            CelUInt, MAP_TYPE, Type,
        },
        value::{CowVal, Val},
    },
    context::VariableResolver,
};

use crate::functions;

/// The variables of one evaluation.
pub trait Variables: Send + Sync {
    /// The value of a variable that the scope has; `None` if it is absent, so that reading it fails.
    fn variable(&self, name: &str) -> Option<Operand<'_>>;
}

/// The fields of a variable.
pub trait Members: Send + Sync {
    /// A field; `None` if it is absent.
    fn get(&self, name: &str) -> Option<Operand<'_>>;

    /// Whether a field is there.
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The names of all that are there, each once; asked where an expression counts them or goes through them.
    fn names(&self) -> Vec<Cow<'_, str>>;
}

/// A value.
pub enum Operand<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list of texts.
    Texts(Vec<&'a str>),
    /// JSON, for what is read once.
    Json(&'a serde_json::Value),
    /// JSON that was made ready before.
    Document(&'a Document),
    /// A map that is asked for its fields.
    Object(&'a dyn Members),
}

impl Operand<'_> {
    /// What it costs to read it within a loop.
    fn units(&self) -> u64 {
        let bytes = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Texts(texts) => texts.iter().map(|text| 16 + text.len()).sum(),
            Self::Document(document) => document.bytes,
            Self::Json(json) => {
                let mut bytes = 0;
                of_json(json, &mut bytes, CelString::from);
                bytes
            }
            _ => 0,
        };
        1 + u64::try_from(bytes / 16).unwrap_or(u64::MAX)
    }
}

/// JSON, made ready for expressions once.
pub struct Document {
    value: Box<dyn Val>,
    /// About how large it is.
    bytes: usize,
}

impl Document {
    /// JSON as CEL has it: numbers that are whole are integers.
    pub fn new(json: &serde_json::Value) -> Self {
        let mut bytes = 0;
        Self { value: of_json(json, &mut bytes, |text| CelString::from(text.to_owned())), bytes }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// JSON as a value, with its texts as `text` takes them.
fn of_json<'j, 'v>(
    value: &'j serde_json::Value,
    bytes: &mut usize,
    text: fn(&'j str) -> CelString<'v>,
) -> Box<dyn Val + 'v> {
    *bytes += 16;
    match value {
        serde_json::Value::Null => Box::new(CelNull),
        serde_json::Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        serde_json::Value::Number(number) => {
            if let Some(whole) = number.as_i64() {
                Box::new(CelInt::from(whole))
            } else if let Some(whole) = number.as_u64() {
                Box::new(CelUInt::from(whole))
            } else {
                Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
            }
        }
        serde_json::Value::String(of) => {
            *bytes += of.len();
            Box::new(text(of))
        }
        serde_json::Value::Array(items) => {
            let items = items.iter().map(|item| of_json(item, bytes, text));
            Box::new(CelList::from(items.collect::<Vec<_>>()))
        }
        serde_json::Value::Object(fields) => {
            let entry = |(name, value): (&'j String, &'j serde_json::Value)| {
                *bytes += name.len();
                (CelMapKey::String(text(name)), of_json(value, bytes, text))
            };
            let fields: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
                fields.iter().map(entry).collect();
            Box::new(CelMap::from(fields))
        }
    }
}

/// A value as JSON; `None` if JSON has nothing like it.
pub(crate) fn json(value: &(dyn Val + '_)) -> Option<serde_json::Value> {
    use serde_json::{Map, Number, Value};
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Some(Value::String(text.inner().to_owned()));
    }
    if let Some(number) = value.downcast_ref::<CelInt>() {
        return Some((*number.inner()).into());
    }
    if let Some(number) = value.downcast_ref::<CelUInt>() {
        return Some((*number.inner()).into());
    }
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        return Number::from_f64(*number.inner()).map(Value::Number);
    }
    if let Some(truth) = value.downcast_ref::<CelBool>() {
        return Some(Value::Bool(*truth.inner()));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Some(Value::Null);
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list
            .inner()
            .iter()
            .map(|item| json(&**item))
            .collect::<Option<_>>()
            .map(Value::Array);
    }
    let map = value.downcast_ref::<CelMap<'_>>()?;
    let mut fields = Vec::with_capacity(map.inner().len());
    for (key, value) in map.inner() {
        let CelMapKey::String(name) = key else { return None };
        fields.push((name.inner().to_owned(), json(&**value)?));
    }
    // The same map is the same JSON each time.
    fields.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Some(Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

/// A value as CEL takes it.
fn lower<'a>(value: Operand<'a>, paid: bool) -> CowVal<'a, 'a> {
    match value {
        Operand::Null => CowVal::owned(CelNull),
        Operand::Bool(truth) => CowVal::owned(CelBool::from(truth)),
        Operand::Int(number) => CowVal::owned(CelInt::from(number)),
        Operand::Uint(number) => CowVal::owned(CelUInt::from(number)),
        Operand::Double(number) => CowVal::owned(CelDouble::from(number)),
        Operand::Text(text) => CowVal::owned(CelString::from(text)),
        Operand::Bytes(bytes) => CowVal::owned(CelBytes::from(bytes)),
        Operand::Texts(texts) => {
            let texts =
                texts.into_iter().map(|text| Box::new(CelString::from(text)) as Box<dyn Val>);
            CowVal::owned(CelList::from(texts.collect::<Vec<_>>()))
        }
        Operand::Json(json) => CowVal::Owned(of_json(json, &mut 0, CelString::from)),
        Operand::Document(document) => CowVal::Borrowed(&*document.value),
        Operand::Object(of) => CowVal::owned(Record { of, paid, keys: OnceLock::new() }),
    }
}

/// The variables and constants of an expression, by name: `@7` is the eighth constant, and `@data` the variable
/// `data`, read in a loop, which is paid for.
pub(crate) struct Bound<'a> {
    pub(crate) variables: &'a dyn Variables,
    pub(crate) constants: &'a [Box<dyn Val>],
}

impl VariableResolver for Bound<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (name, paid) = match name.strip_prefix('@') {
            Some(rest) if rest.starts_with(|first: char| first.is_ascii_digit()) => {
                let at: usize = rest.parse().ok()?;
                return self.constants.get(at).map(|of| CowVal::Borrowed(&**of));
            }
            Some(rest) => (rest, true),
            None => (name, false),
        };
        // CEL asks for `request.path` as a whole first, which spares the map in between.
        let value = match name.split_once('.') {
            None => self.variables.variable(name)?,
            Some((_, field)) if field.contains('.') => return None,
            Some((name, field)) => match self.variables.variable(name)? {
                Operand::Object(of) => of.get(field)?,
                _ => return None,
            },
        };
        if paid {
            functions::pay(value.units())?;
        }
        Some(lower(value, paid))
    }
}

/// A map that is asked for its fields.
struct Record<'a> {
    of: &'a dyn Members,
    /// Whether what is read of it is paid for.
    paid: bool,
    keys: OnceLock<Vec<CelString<'a>>>,
}

impl<'a> Record<'a> {
    fn keys(&self) -> &[CelString<'a>] {
        self.keys.get_or_init(|| self.of.names().into_iter().map(CelString::from).collect())
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record")
    }
}

impl Val for Record<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        static MAP: Type = MAP_TYPE;
        &MAP
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Record { of: self.of, paid: self.paid, keys: OnceLock::new() })
    }
}

fn key(index: &dyn Val) -> Result<&str, ExecutionError> {
    let text = index.downcast_ref::<CelString<'_>>();
    text.map(CelString::inner).ok_or_else(|| ExecutionError::UnexpectedType {
        got: index.get_type().name().to_owned(),
        want: "string".to_owned(),
    })
}

impl Container for Record<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.of.has(key(value)?))
    }
}

impl<'a> Indexer for Record<'a> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = key(index)?;
        let of: &'a dyn Members = self.of;
        let Some(value) = of.get(name) else { return Err(ExecutionError::no_such_key(name)) };
        if self.paid {
            functions::pay(value.units()).ok_or_else(functions::too_long)?;
        }
        Ok(lower(value, self.paid))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Sizer for Record<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.keys().len()).unwrap_or(i64::MAX))
    }
}

impl Iterable for Record<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Elements<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Keys(self.keys().iter()))
    }
}

struct Keys<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'a: 'v, 'v> Elements<'b, 'v> for Keys<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|key| key as &(dyn Val + 'v))
    }
}
