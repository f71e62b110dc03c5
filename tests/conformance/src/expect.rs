//! How an answer is compared with what a case expects.

use serde_json::Value;

/// Whether an answer is as expected: only what is named is compared.
pub(crate) fn matches(expected: &Value, given: &Value) -> bool {
    match expected {
        Value::Object(object) if object.len() == 1 && object.contains_key("between") => {
            let bounds = object["between"].as_array().map_or(&[][..], Vec::as_slice);
            let (low, high) = (bounds.first().and_then(Value::as_f64), bounds.get(1).and_then(Value::as_f64));
            given.as_f64().is_some_and(|given| {
                low.is_some_and(|low| low <= given) && high.is_some_and(|high| given <= high)
            })
        }
        Value::Object(object) if object.len() == 1 && object.contains_key("json") => {
            let document = given.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            document.is_some_and(|document| same(&object["json"], &document))
        }
        Value::Object(object) => object
            .iter()
            .all(|(name, expected)| given.get(name).is_some_and(|given| matches(expected, given))),
        Value::Array(items) => given.as_array().is_some_and(|given| {
            given.len() == items.len()
                && items.iter().zip(given).all(|(expected, given)| matches(expected, given))
        }),
        plain => plain == given,
    }
}

/// Whether two JSON values are the same: numbers by their value, however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_named_is_compared_and_that_exactly() {
        for (expected, given, is_match) in [
            (json!({}), json!({ "a": 1 }), true),
            (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), true),
            (json!({ "a": 1 }), json!({ "b": 2 }), false),
            (json!({ "a": { "between": [1, 3] } }), json!({ "a": 3 }), true),
            (json!({ "a": { "between": [1, 3] } }), json!({ "a": 4 }), false),
            (json!({ "a": { "between": [1, 3] } }), json!({ "a": "2" }), false),
            (json!({ "json": { "x": [1] } }), json!("{\"x\": [1]}"), true),
            (json!({ "json": { "x": [1] } }), json!("{\"x\": [1, 2]}"), false),
            (json!({ "json": { "n": -300.0 } }), json!("{\"n\": -3e2}"), true),
            (json!({ "json": { "n": 1 } }), json!("{\"n\": 1, \"m\": 2}"), false),
            (json!([1, {}]), json!([1, { "a": 2 }]), true),
            (json!([1]), json!([1, 2]), false),
            (json!("miss"), json!("hit"), false),
        ] {
            assert_eq!(matches(&expected, &given), is_match, "{expected} {given}");
        }
    }
}
