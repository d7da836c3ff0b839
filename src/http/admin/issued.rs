//! The answer to a credential that was issued, the same for keys and tokens.

use axum::Json as Answer;
use axum::http::StatusCode;
use serde_json::Value;

use crate::secret::PlainCredential;

/// 201 with the credential itself in `field`, shown this once; 200 without it
/// when this was a replay under the same idempotency key.
pub(super) fn answer(
    mut record: Value,
    field: &str,
    plain: Option<&PlainCredential>,
) -> (StatusCode, Answer<Value>) {
    let status = match (plain, record.as_object_mut()) {
        (Some(plain), Some(fields)) => {
            fields.insert(field.to_owned(), plain.reveal().into());
            StatusCode::CREATED
        }
        _ => StatusCode::OK,
    };
    (status, Answer(record))
}
