//! Asks a running gateway and holds every answer against the contract.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::demo::{Answer, Demo, Request, request};
use crate::schema::{Contract, Operation};

/// Asks a running gateway and holds every answer against the document.
pub(crate) struct Prober {
    pub(crate) contract: &'static Contract,
    pub(crate) demo: Demo,
    /// Operation, status, code (empty where there is none).
    pub(crate) seen: BTreeSet<(String, u16, String)>,
}

impl Prober {
    pub(crate) fn address(&self, operation: &Operation<'_>) -> SocketAddr {
        match operation.path {
            path if path.starts_with("/admin/") => self.demo.admin,
            "/livez" | "/readyz" | "/metrics" => self.demo.ops,
            _ => self.demo.verification,
        }
    }

    pub(crate) fn probe(&mut self, operation: &Operation<'_>, request: &Request) -> Answer {
        let answer = request.send(self.address(operation));
        self.judge(operation, answer)
    }

    /// Is this answer in the document, with this status, code, media type and shape?
    pub(crate) fn judge(&mut self, operation: &Operation<'_>, answer: Answer) -> Answer {
        let name = operation.name();
        let told = || format!("{name}: {} {}", answer.status, answer.text());
        let response =
            operation.response(answer.status).unwrap_or_else(|| panic!("undocumented: {}", told()));
        let media_type = answer.media_type();
        let content = response["content"]
            .get(media_type)
            .unwrap_or_else(|| panic!("{media_type} is undocumented: {}", told()));
        match media_type {
            "application/x-ndjson" => {
                for line in answer.text().lines() {
                    let line: Value = serde_json::from_str(line).expect("a line of JSON");
                    let wrong = self.contract.check(&content["x-line-schema"], &line);
                    assert!(wrong.is_empty(), "{wrong:?}: {}", told());
                }
            }
            "text/plain" | "application/yaml" | "application/octet-stream" => {}
            _ => {
                let wrong = self.contract.check(&content["schema"], &answer.json());
                assert!(wrong.is_empty(), "{wrong:?}: {}", told());
            }
        }
        let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        if media_type == "application/problem+json" {
            assert_eq!(answer.json()["status"], json!(answer.status), "{}", told());
            assert_eq!(answer.json()["type"], json!(format!("urn:peselgate:problem:{code}")));
        }
        assert!(answer.headers.contains_key("x-request-id"), "{}", told());
        assert_eq!(answer.headers.get("cache-control").map(String::as_str), Some("no-store"));
        let promised = response.get("headers").and_then(Value::as_object);
        for (header, what) in promised.into_iter().flatten().filter(|_| media_type != "application/x-ndjson")
        {
            let of_limits = self.contract.resolve(what).get("x-of-keys-limits").is_some();
            assert!(of_limits || answer.headers.contains_key(header), "{header} is missing: {}", told());
        }
        let has = |header: &str| promised.is_some_and(|promised| promised.contains_key(header));
        for header in ["ratelimit", "ratelimit-policy"] {
            assert!(has(header) || !answer.headers.contains_key(header), "{header}: {}", told());
        }
        self.seen.insert((name, answer.status, code));
        answer
    }

    pub(crate) fn expect(
        &mut self,
        operation: &Operation<'_>,
        request: &Request,
        status: u16,
        code: &str,
    ) -> Answer {
        let answer = self.probe(operation, request);
        let found = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (answer.status, found.as_str()),
            (status, code),
            "{}: {}",
            operation.name(),
            answer.text()
        );
        answer
    }

    pub(crate) fn operation(&self, id: &str) -> Operation<'static> {
        let mut operations = self.contract.operations().into_iter();
        operations.find(|operation| operation.value["operationId"] == json!(id)).expect(id)
    }

    /// The credential that opens an operation, if it needs one.
    pub(crate) fn credential(&self, operation: &Operation<'_>) -> Option<String> {
        match operation.value["security"].pointer("/0") {
            None => None,
            Some(scheme) if scheme.get("apiKey").is_some() => Some(self.demo.key()),
            Some(_) => Some(self.demo.token()),
        }
    }

    /// A request to the operation, with an `{id}` that is there and the credential.
    pub(crate) fn asked(&mut self, operation: &Operation<'_>) -> Request {
        let mut request = request(&operation.method, &self.target(operation));
        if let Some(credential) = self.credential(operation) {
            request = request.bearer(&credential);
        }
        request
    }

    pub(crate) fn target(&mut self, operation: &Operation<'_>) -> String {
        let id = match operation.path {
            path if path.starts_with("/v1/verifications/") => {
                let request = request("POST", "/v1/verify").bearer(&self.demo.key());
                let answer = request.json(&json!({"pesel": "50810100014"})).send(self.demo.verification);
                answer.json()["verification_id"].clone()
            }
            path if path.starts_with("/admin/v1/keys/") => self.issue_key("127.0.0.0/8", 9, 9).0.into(),
            path if path.starts_with("/admin/v1/tokens/") => {
                self.issue_token(&json!({"role": "auditor", "label": "x"})).0.into()
            }
            path => return path.to_owned(),
        };
        operation.path.replace("{id}", id.as_str().expect("an id"))
    }

    /// Identifier and key.
    pub(crate) fn issue_key(&mut self, network: &str, burst: u32, per_day: u32) -> (String, String) {
        let body = json!({
            "institution": {"name": "Bank"}, "system": "s", "addresses": [network],
            "limits": {"per_second": 1, "burst": burst, "per_day": per_day},
        });
        let request = request("POST", "/admin/v1/keys").bearer(&self.demo.token()).json(&body);
        let answer = request.send(self.demo.admin).json();
        (text(&answer["id"]), text(&answer["key"]))
    }

    /// Identifier and token.
    pub(crate) fn issue_token(&mut self, body: &Value) -> (String, String) {
        let request = request("POST", "/admin/v1/tokens").bearer(&self.demo.token()).json(body);
        let answer = request.send(self.demo.admin).json();
        (text(&answer["id"]), text(&answer["token"]))
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub(crate) fn with_body(request: Request, media_type: &str, value: &Value) -> Request {
    match value {
        Value::String(text) if media_type == "application/x-ndjson" => {
            request.body(media_type, text.as_bytes())
        }
        value => request.body(media_type, value.to_string()),
    }
}

/// An example of the operation as its body, where it takes one.
pub(crate) fn filled(operation: &Operation<'_>, request: Request) -> Request {
    match operation.examples().first() {
        Some((media_type, _, value)) => with_body(request, media_type, value),
        None => request,
    }
}
