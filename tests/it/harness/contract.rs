//! The admin listener's `OpenAPI` document, and whether an answer is one that it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use http::Method;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::Answer;

/// The document as it is in the repository.
pub(crate) const TEXT: &str = include_str!("../../../docs/admin-openapi.json");

/// It, read once.
pub(crate) static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::of(&serde_json::from_str(TEXT).expect("JSON")));

/// The page and its files are no part of it.
const PAGE: [&str; 6] = ["/", "/page.css", "/page.js", "/icon.svg", "/uplot.css", "/uplot.js"];

/// What stands for everything below `/admin/v1` and for nothing: a path, a method and a status that an answer had.
pub(crate) type Seen = (String, String, String);

/// A document in a form to check answers by.
pub(crate) struct Contract {
    answers: BTreeMap<Seen, Response>,
    /// An error in the envelope.
    problem: Validator,
    whole: Value,
}

struct Response {
    media_types: BTreeMap<String, Validator>,
    headers: Vec<(String, Validator)>,
}

impl Contract {
    pub(crate) fn of(whole: &Value) -> Self {
        let mut answers = BTreeMap::new();
        for (path, method, operation) in operations(whole) {
            for (status, response) in operation["responses"].as_object().expect("responses") {
                if status != "default" {
                    answers.insert((path.clone(), method.clone(), status.clone()), Response::of(whole, response));
                }
            }
        }
        let problem = validator(whole, &json!({ "$ref": "#/components/schemas/Problem" }));
        Self { answers, problem, whole: whole.clone() }
    }

    /// Every path, method (as the document writes it) and status that it has.
    pub(crate) fn promised(&self) -> BTreeSet<Seen> {
        self.answers.keys().cloned().collect()
    }

    /// Its paths, each with its methods.
    pub(crate) fn paths(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut paths = BTreeMap::<_, BTreeSet<_>>::new();
        for (path, method, _) in self.answers.keys() {
            paths.entry(path.as_str()).or_default().insert(method.as_str());
        }
        paths
    }

    /// Checks a schema of it by a value, and says what is wrong.
    pub(crate) fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        meets(&validator(&self.whole, schema), value)
    }

    /// Which of its answers this is, or why it is none.
    pub(crate) fn check(&self, method: &Method, target: &str, answer: &Answer) -> Result<Option<Seen>, String> {
        let (path, status) = (target.split('?').next().unwrap_or_default(), answer.status.as_str());
        let Some(template) = self.template(path) else { return self.check_beside(path, answer).map(|()| None) };
        let word = if *method == Method::HEAD { "get".to_owned() } else { method.as_str().to_lowercase() };
        if !self.paths()[template].contains(word.as_str()) {
            // Who may not ask is not told either that there is no such method.
            let code = if matches!(status, "400" | "401" | "421") { answer.code() } else { "method_not_allowed".to_owned() };
            return self.is_problem(answer, &code).map(|()| None);
        }
        let seen = (template.to_owned(), word, status.to_owned());
        let response = self.answers.get(&seen).ok_or_else(|| format!("the document has no {seen:?}"))?;
        response.check(answer, *method == Method::HEAD).map_err(|why| format!("{seen:?}: {why}: {}", answer.text()))?;
        Ok(Some(seen))
    }

    /// What is not in the document is not there, or is the page.
    fn check_beside(&self, path: &str, answer: &Answer) -> Result<(), String> {
        if PAGE.contains(&path) || matches!(answer.status.as_u16(), 400 | 401 | 421) {
            return Ok(());
        }
        self.is_problem(answer, "not_found").map_err(|why| format!("the document has no path {path}: {why}"))
    }

    fn is_problem(&self, answer: &Answer, code: &str) -> Result<(), String> {
        meets(&self.problem, &serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?)?;
        if answer.code() == code { Ok(()) } else { Err(format!("its code is {}, not {code}", answer.code())) }
    }

    /// The path of the document that stands for this one; one that is written out goes before one with parameters.
    fn template(&self, path: &str) -> Option<&str> {
        let fits = |template: &&str| {
            let (shape, segments): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            shape.len() == segments.len() && shape.iter().zip(&segments).all(|(shape, segment)| shape.starts_with('{') || shape == segment)
        };
        self.paths().into_keys().filter(fits).max_by_key(|template| *template == path)
    }
}

impl Response {
    fn of(whole: &Value, response: &Value) -> Self {
        let response = resolved(whole, response);
        let content = response["content"].as_object().expect("every answer has a body");
        let media_types = content.iter().map(|(name, media)| (name.clone(), validator(whole, &media["schema"]))).collect();
        let nothing = Map::new();
        let headers = response["headers"].as_object().unwrap_or(&nothing).iter();
        let headers = headers.map(|(name, header)| (name.clone(), validator(whole, &resolved(whole, header)["schema"]))).collect();
        Self { media_types, headers }
    }

    fn check(&self, answer: &Answer, is_head: bool) -> Result<(), String> {
        let media_type = answer.header("content-type");
        let schema = self.media_types.get(media_type).ok_or_else(|| format!("the document has no {media_type:?} for it"))?;
        for (name, schema) in &self.headers {
            meets(schema, &answer.header(name).into()).map_err(|why| format!("{name}: {why}"))?;
        }
        if is_head {
            return if answer.body.is_empty() { Ok(()) } else { Err("HEAD has a body".to_owned()) };
        }
        let body = if media_type == "application/json" {
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?
        } else {
            answer.text().into()
        };
        meets(schema, &body)
    }
}

/// Every path, method and operation of a document.
pub(crate) fn operations(whole: &Value) -> Vec<(String, String, &Value)> {
    let paths = whole["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, item)| {
        item.as_object().expect("operations").iter().map(move |(method, operation)| (path.clone(), method.clone(), operation))
    });
    operations.collect()
}

/// What a reference within the document leads to.
pub(crate) fn resolved<'d>(whole: &'d Value, value: &'d Value) -> &'d Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    whole.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// A schema of the document, with what it refers to.
fn validator(whole: &Value, schema: &Value) -> Validator {
    let with_all = json!({ "components": { "schemas": whole["components"]["schemas"] }, "allOf": [schema] });
    jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true).build(&with_all).expect("a schema")
}

fn meets(schema: &Validator, value: &Value) -> Result<(), String> {
    let faults: Vec<_> = schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}
