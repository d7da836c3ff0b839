//! Overrides from the environment: `PESELGATE_<TABLE>__<KEY>`.

use toml::{Table, Value};

use super::error::ConfigError;
use super::raw::Raw;

/// What every variable of this program begins with.
const PREFIX: &str = "PESELGATE_";
/// Between table, sub-table and key.
const SEPARATOR: &str = "__";
/// The one key that stands in no table.
const ENVIRONMENT: &str = "PESELGATE_ENVIRONMENT";

/// The environment variables that override the file.
///
/// A list, not a look-up by name: a variable that names no key must be found to
/// be refused. Variables without `__` (`PESELGATE_KEY`, or what a container
/// platform makes of a service's name) are none of the configuration's business.
#[derive(Debug, Clone, Default)]
pub struct Variables(Vec<(String, String)>);

impl Variables {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::new(std::env::vars_os().filter_map(|(name, value)| {
            // A value that is no Unicode is kept in its lossy form: the judge of
            // its key will name it.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))
    }

    /// From name and value; names that are not ours are dropped.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(
            variables
                .into_iter()
                .filter(|(name, _)| {
                    name == ENVIRONMENT
                        || name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains(SEPARATOR))
                })
                .collect(),
        )
    }

    /// Puts each into the file's table, judged by the types of the file.
    pub(super) fn apply(&self, table: &mut Table) -> Result<(), ConfigError> {
        // `every_key` is made of strings, integers and booleans: it always
        // serialises, and a failure would refuse every override by name.
        let template = Table::try_from(Raw::every_key()).unwrap_or_default();
        for (name, text) in &self.0 {
            let path = path_of(name);
            let unknown = || ConfigError::UnknownVariable { name: name.clone() };
            let wrong = |message: String| ConfigError::Variable { name: name.clone(), message };
            let like = look_up(&template, &path).ok_or_else(unknown)?;
            // An address or a list of them; what is always a list is one here, too.
            let may_be_list = path.last().is_some_and(|key| key == "listen") && text.contains(',');
            let is_list = may_be_list || like.is_array();
            let value = if is_list { list(text) } else { typed(like, text).map_err(&wrong)? };
            // Alone first, so that an error can name the variable.
            let mut alone = Table::new();
            put(&mut alone, &path, value.clone());
            alone.try_into::<Raw>().map_err(|error| wrong(error.message().to_owned()))?;
            put(table, &path, value);
        }
        Ok(())
    }

    /// The variable that set this key, if one did.
    pub(super) fn name_of(&self, key: &str) -> Option<String> {
        self.0.iter().map(|(name, _)| name).find(|name| path_of(name).join(".") == key).cloned()
    }
}

fn path_of(name: &str) -> Vec<String> {
    name.strip_prefix(PREFIX).unwrap_or(name).split(SEPARATOR).map(str::to_ascii_lowercase).collect()
}

/// The leaf at this path of the template; `None` for a table or nothing.
fn look_up<'a>(template: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (key, tables) = path.split_last()?;
    let table = tables.iter().try_fold(template, |table, name| table.get(name)?.as_table())?;
    table.get(key).filter(|value| !value.is_table())
}

/// A list is written with commas; nothing is the empty one.
fn list(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Array(Vec::new());
    }
    Value::Array(text.split(',').map(|part| Value::String(part.trim().to_owned())).collect())
}

/// Reads the text as the type that the template's value has.
fn typed(like: &Value, text: &str) -> Result<Value, String> {
    match like {
        Value::Integer(_) => text
            .trim()
            .replace('_', "")
            .parse()
            .map(Value::Integer)
            .map_err(|_| format!("`{text}` is no whole number")),
        Value::Boolean(_) => text
            .trim()
            .parse()
            .map(Value::Boolean)
            .map_err(|_| format!("`{text}` is neither `true` nor `false`")),
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let Some((key, tables)) = path.split_last() else { return };
    let mut table = table;
    for name in tables {
        let entry = table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
        match entry {
            Value::Table(inner) => table = inner,
            // The file was judged before: what the template calls a table is one.
            _ => return,
        }
    }
    table.insert(key.clone(), value);
}
