//! As much of JSON Schema as the contract uses, and walking the contract.

use std::collections::BTreeSet;

use serde_json::Value;

/// The contract, with its references.
pub(crate) struct Contract(pub(crate) Value);

/// The keywords that [`Contract::check`] judges, and those that judge nothing.
/// One that is in neither list would be believed and not tested.
const JUDGED: &[&str] = &[
    "$ref",
    "type",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "oneOf",
    "allOf",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
];
const UNJUDGED: &[&str] = &["description", "format", "pattern", "default", "examples"];

impl Contract {
    pub(crate) fn read() -> Self {
        let text = include_str!("../../config/openapi.yaml");
        Self(serde_yaml_ng::from_str(text).expect("YAML"))
    }

    /// What a reference stands for; anything else stands for itself.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("a reference into the document");
                self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => value,
        }
    }

    /// Everything about `value` that is not as `schema` says.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.collect(schema, value, "", &mut wrong);
        wrong
    }

    fn collect(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let Some(fields) = schema.as_object() else { panic!("{schema} is no schema") };
        for keyword in fields.keys() {
            let known = JUDGED.contains(&keyword.as_str()) || UNJUDGED.contains(&keyword.as_str());
            assert!(known, "the tests do not know the keyword {keyword}");
        }
        self.collect_shape(schema, value, at, wrong);
        let mut complain = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{at}: {what}: {value}"));
            }
        };
        if let Some(wanted) = schema.get("const") {
            complain(value == wanted, "not the constant");
        }
        if let Some(Value::Array(words)) = schema.get("enum") {
            complain(words.contains(value), "none of the words");
        }
        let number = |name: &str| schema.get(name).and_then(Value::as_f64);
        if let Some(found) = value.as_f64() {
            complain(number("minimum").is_none_or(|least| found >= least), "too small");
            complain(number("maximum").is_none_or(|most| found <= most), "too large");
        }
        let size = match value {
            Value::Array(items) => Some((items.len(), "minItems", "maxItems")),
            Value::String(text) => Some((text.chars().count(), "minLength", "maxLength")),
            _ => None,
        };
        if let Some((size, least, most)) = size {
            complain(number(least).is_none_or(|least| size as f64 >= least), "too short");
            complain(number(most).is_none_or(|most| size as f64 <= most), "too long");
        }
        if let Some(Value::Array(choices)) = schema.get("oneOf") {
            let fits = choices.iter().filter(|choice| self.check(choice, value).is_empty()).count();
            complain(fits == 1, &format!("fits {fits} of the choices"));
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.collect(part, value, at, wrong);
        }
    }

    /// Types, fields and items.
    fn collect_shape(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|name| is_a(value, name)) {
            wrong.push(format!("{at}: not of type {types:?}: {value}"));
        }
        if let (Some(Value::Array(items)), Some(item)) = (Some(value), schema.get("items")) {
            for (place, value) in items.iter().enumerate() {
                self.collect(item, value, &format!("{at}/{place}"), wrong);
            }
        }
        let Some(object) = value.as_object() else { return };
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap_or_default()) {
                wrong.push(format!("{at}: {name} is missing"));
            }
        }
        let properties = schema.get("properties");
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        for (name, value) in object {
            match properties.and_then(|properties| properties.get(name)) {
                Some(property) => self.collect(property, value, &format!("{at}/{name}"), wrong),
                None if closed => wrong.push(format!("{at}: {name} is not in the contract")),
                None => {}
            }
        }
    }

    /// Every operation of the document.
    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().expect("paths") {
            for method in ["get", "put", "post", "delete", "patch"] {
                if let Some(value) = item.get(method) {
                    operations.push(Operation { contract: self, path, method: method.to_uppercase(), value });
                }
            }
        }
        operations
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the tests do not know the type {other}"),
    }
}

/// A path with a method.
pub(crate) struct Operation<'a> {
    pub(crate) contract: &'a Contract,
    pub(crate) path: &'a str,
    pub(crate) method: String,
    pub(crate) value: &'a Value,
}

impl Operation<'_> {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn response(&self, status: u16) -> Option<&Value> {
        self.value["responses"].get(status.to_string()).map(|response| self.contract.resolve(response))
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        let responses = self.value["responses"].as_object().expect("responses");
        responses.keys().map(|status| status.parse().expect("a status")).collect()
    }

    /// The problem codes that a status is documented with.
    pub(crate) fn codes(&self, status: u16) -> BTreeSet<String> {
        let response = self.response(status);
        let schema =
            response.and_then(|response| response["content"]["application/problem+json"].get("schema"));
        let words = schema.and_then(|schema| schema.pointer("/allOf/1/properties/code/enum"));
        let words = words.and_then(Value::as_array).into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The examples of the request: media type, name and value.
    pub(crate) fn examples(&self) -> Vec<(&str, &str, &Value)> {
        let mut examples = Vec::new();
        for (media_type, content) in
            self.value.pointer("/requestBody/content").and_then(Value::as_object).into_iter().flatten()
        {
            for (name, example) in content["examples"].as_object().expect("examples") {
                examples.push((media_type.as_str(), name.as_str(), &example["value"]));
            }
        }
        examples
    }
}
