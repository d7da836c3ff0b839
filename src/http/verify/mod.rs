//! The verification plane's endpoints.
//!
//! The way of a request, each step made only from the one before:
//! identify -> admit -> parse -> answer -> record -> render.

pub(crate) mod ask;
mod batch;
mod contract;
#[cfg(feature = "measuring")]
#[doc(hidden)]
pub mod decision;
mod evidence;
mod history;
mod limits;
pub(crate) use limits::Policy;
mod overdue;
mod render;
mod single;
pub mod status;
pub(crate) mod stream;

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONNECTION, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request};
use hyper::body::{Body, Incoming};

use crate::audit::RecordRefused;
use crate::gate::{Identity, Permit};
use crate::http::message::{self, MediaType, WholeBody};
use crate::http::panic::{Panicked, catch_panic};
use crate::http::plane::{Connection, Worker};
use crate::http::problem::{Code, Problem};
use crate::http::reply::{Reply, add_common_headers, head_alone};
use crate::http::request_id::RequestId;

/// Handles one request of the verification plane; the one place where every
/// response leaves, refusals too: counted, timed, with the common headers.
pub(crate) async fn handle(connection: Rc<Connection>, request: Request<Incoming>) -> Reply {
    let arrived = Instant::now();
    let worker = &connection.worker;
    connection.control.body_announced(!request.body().is_end_stream());
    let request_id = RequestId::of(request.headers(), || worker.random());
    let is_head = request.method() == Method::HEAD;
    // HTTP/2 has no transfer codings. In HTTP/1.1 a coded message is the last on its
    // connection: whoever read its end elsewhere has nothing answered behind it.
    let is_last = request.headers().contains_key(TRANSFER_ENCODING);
    let mut request = request.map(Some);
    let outcome = catch_panic(route(&connection, &mut request, arrived)).await.unwrap_or_else(|Panicked| {
        worker.tally.panicked();
        tracing::error!(request_id = request_id.as_str(), "a handler panicked");
        Err(Problem::internal())
    });
    let unread = request.into_body();
    if connection.http2 {
        if let Some(unread) = unread {
            message::discard(unread);
        }
    } else if connection.control.leaves_unread() {
        drop(unread);
        // Nobody here holds the body any more, a stream apart: the engine takes what came
        // of it with the head or else gives the connection up, and the answer says which.
        tokio::task::yield_now().await;
    }
    worker.tally.answered_in(arrived.elapsed());
    let mut reply = match outcome {
        Ok(reply) => reply,
        Err(problem) => {
            if problem.is_to_stranger() {
                // Not counted as an answer's time: it is ours, not the machine's.
                worker.turn_of_refusal(arrived).await;
            }
            if is_last && problem.code() == Code::MalformedRequest {
                connection.turn_of_malformed().await;
            }
            worker.tally.refused(problem.code());
            let left = problem.left().copied();
            let mut reply = problem.into_response(&request_id);
            if let Some(left) = left {
                limits::add_fields(&connection, reply.headers_mut(), &left, worker.handles.clock.now());
            }
            reply
        }
    };
    add_common_headers(reply.headers_mut(), &request_id, connection.over_tls);
    if is_last && !connection.http2 {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if is_head && connection.http2 { head_alone(reply) } else { reply }
}

/// A request whose body is still there as long as nobody has taken it.
type Asked = Request<Option<Incoming>>;

async fn route(connection: &Rc<Connection>, request: &mut Asked, arrived: Instant) -> Result<Reply, Problem> {
    let worker = &connection.worker;
    message::target_fits(request.uri())?;
    if connection.http2 {
        message::head_fits(request.uri(), request.headers())?;
    }
    message::host_is_one(request.version(), request.headers())?;
    message::has_no_query(request.uri())?;
    let method = request.method();
    match request.uri().path() {
        "/v1/verify" => match *method {
            Method::POST => single::verify(connection, request, arrived).await,
            _ => Err(Problem::method_not_allowed("POST")),
        },
        "/v1/verify/batch" => match *method {
            Method::POST => match message::media_type(request.headers())? {
                // Boxed: a single question's future, copied with every request, stays small.
                MediaType::Json => Box::pin(batch::verify(connection, request, arrived)).await,
                MediaType::Ndjson => stream::verify(Rc::clone(connection), request),
            },
            _ => Err(Problem::method_not_allowed("POST")),
        },
        "/v1/limits" => only_get(method).and_then(|()| limits::of_key(connection, request.headers())),
        "/v1/status" => only_get(method).map(|()| status::reply(worker)),
        "/openapi.yaml" => only_get(method).map(|()| contract::reply()),
        path => match path.strip_prefix("/v1/verifications/") {
            Some(id) if !id.is_empty() => {
                only_get(method)?;
                Box::pin(evidence::fetch(connection, request.headers(), id)).await
            }
            _ => Err(Problem::not_found()),
        },
    }
}

fn only_get(method: &Method) -> Result<(), Problem> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method_not_allowed("GET, HEAD")),
    }
}

/// Who is this? Only the head is looked at.
fn identify(connection: &Connection, headers: &HeaderMap) -> Result<Identity, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let authorization = values.next().map(http::HeaderValue::as_bytes);
    if values.next().is_some() {
        return Err(Problem::new(Code::MalformedRequest, "more than one authorization field"));
    }
    let mut identities = connection.identities.borrow_mut();
    let identity =
        connection.worker.handles.gate.identify(&connection.peer, authorization, &mut identities)?;
    Ok(identity)
}

/// May they? The body is read only once there is a permit.
fn admit(connection: &Connection, headers: &HeaderMap) -> Result<Permit, Problem> {
    let identity = identify(connection, headers)?;
    Ok(connection.worker.handles.gate.admit(&connection.peer, identity, NonZeroU32::MIN)?)
}

/// A question that may be asked: the body is read once there is a permit.
struct Admitted {
    permit: Permit,
    /// The question's fields; the answer is written into them.
    fields: HeaderMap,
    body: WholeBody,
}

/// Admits a question whose body is whole, and reads it.
async fn admitted(
    connection: &Connection,
    request: &mut Asked,
    body_bytes_max: usize,
    arrived: Instant,
) -> Result<Admitted, Problem> {
    // What is refused must cost little, or there is nothing left for what is not: a
    // stranger's credential is not even hashed. The body of those who may ask is read
    // first, since their connection goes on behind it.
    let recorder = &connection.worker.recorder;
    if !connection.identities.borrow().has_proved() && recorder.is_overloaded() {
        return Err(Problem::overloaded().to_stranger());
    }
    let mut permit = admit(connection, request.headers())?;
    if message::media_type(request.headers())? != MediaType::Json {
        return Err(Problem::new(Code::UnsupportedMediaType, "send content-type: application/json"));
    }
    let (version, fields) = (request.version(), std::mem::take(request.headers_mut()));
    let body = request.body_mut().take().ok_or_else(Problem::internal)?;
    let body = message::read_whole(connection, version, &fields, body, body_bytes_max, arrived).await?;
    if body.waited.is_some() {
        // A key dies at once, though its question was on its way. What came with its
        // head was admitted just now and is not asked again.
        connection.worker.handles.gate.confirm(&connection.peer, &mut permit)?;
    }
    if recorder.is_overloaded() {
        return Err(Problem::overloaded());
    }
    Ok(Admitted { permit, fields, body })
}

/// The answer as the trail keeps it.
fn told(answer: &crate::query::Answer) -> crate::audit::Told {
    crate::audit::Told {
        reserved: answer.reserved(),
        reserved_at: answer.reserved_at(),
        withdrawn_at: answer.withdrawn_at(),
    }
}

/// Why the trail took no record, or lost it.
fn unrecorded(refused: RecordRefused) -> Problem {
    match refused {
        RecordRefused::Overloaded => Problem::overloaded(),
        RecordRefused::TooLarge => {
            Problem::new(Code::ContentTooLarge, "the question does not fit into one record")
        }
        RecordRefused::Unavailable { since } => Problem::audit_unavailable(since),
    }
}

/// Answers about now read the clock once: the moment is both asked and answered. None
/// is given by a clock that lies behind what is on record: a temporary withdrawal
/// would seem to last that has ended.
fn now(worker: &Worker) -> Result<crate::clock::Moment, Problem> {
    worker.handles.clock.judged().map_err(|_| Problem::clock_behind())
}
