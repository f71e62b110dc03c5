//! Values as cases write them: long strings, and what was saved from an answer.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// What was saved, by name.
pub(crate) type Saved = BTreeMap<String, Value>;

/// The value that is meant.
pub(crate) fn resolve(value: &Value, saved: &Saved) -> Result<Value> {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(name)) = object.get("var").filter(|_| object.len() == 1) {
                return saved.get(name).cloned().with_context(|| format!("nothing was saved as {name}"));
            }
            if let (Some(Value::String(text)), Some(times), 2) =
                (object.get("repeat"), object.get("times").and_then(Value::as_u64), object.len())
            {
                return Ok(text.repeat(usize::try_from(times)?).into());
            }
            if let (Some(Value::Array(parts)), 1) = (object.get("join"), object.len()) {
                let parts = parts.iter().map(|part| resolve(part, saved));
                let texts =
                    parts.map(|part| Ok(part?.as_str().context("a part that is no text")?.to_owned()));
                return Ok(texts.collect::<Result<String>>()?.into());
            }
            Ok(Value::Object(resolve_all(object, saved)?))
        }
        Value::Array(items) => {
            items.iter().map(|item| resolve(item, saved)).collect::<Result<_>>().map(Value::Array)
        }
        plain => Ok(plain.clone()),
    }
}

/// The same, of each member.
pub(crate) fn resolve_all(object: &Map<String, Value>, saved: &Saved) -> Result<Map<String, Value>> {
    object.iter().map(|(name, value)| Ok((name.clone(), resolve(value, saved)?))).collect()
}
