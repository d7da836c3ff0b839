//! A small HTTP/1.1 client, shared by all commands: one connection, one request
//! at a time, JSON in and out or a body that streams both ways.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::credential::Bearer;
use super::endpoint::Endpoint;
use super::refusal::accepted;
use super::tls;

pub(crate) use super::refusal::ClientError;

/// For the connection and its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle time before a connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// For the whole answer to a request that does not stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a streaming body waits for the head of the answer before it flows. A
/// gateway that refuses does so without reading: a body on its way would meet a
/// closed connection, and the reset could overtake the refusal.
const HEAD_WAIT: Duration = Duration::from_millis(250);
/// Bytes of an answer that is read whole: a list of 100 000 keys.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Frames of a streaming body between its maker and the connection.
const UPLOAD_FRAMES: usize = 4;

const AGENT: &str = concat!("peselgate/", env!("CARGO_PKG_VERSION"));

/// A gateway's plane with the credential for it.
#[derive(Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    bearer: Bearer,
}

impl Client {
    pub(crate) fn new(url: &str, ca_file: Option<&Path>, bearer: Bearer) -> Result<Self, ClientError> {
        let endpoint = Endpoint::parse(url).map_err(ClientError::Url)?;
        let tls = match endpoint.is_tls() {
            true => Some(tls::connector(ca_file).map_err(ClientError::Trust)?),
            false => None,
        };
        Ok(Self { endpoint, tls, bearer })
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which credential asks, without its secret.
    pub(crate) fn credential(&self) -> &str {
        self.bearer.public_text()
    }

    /// Opens a connection, with TLS where the URL says so.
    pub(crate) async fn connect(&self) -> Result<Connection, ClientError> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.connect_patiently())
            .await
            .unwrap_or(Err(ClientError::Timeout("connection")))
    }

    async fn connect_patiently(&self) -> Result<Connection, ClientError> {
        let failed = |error| ClientError::Connect { endpoint: self.endpoint.clone(), error };
        let stream =
            TcpStream::connect((self.endpoint.host(), self.endpoint.port())).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        // Without it a gateway whose machine is gone would be waited for for ever.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(failed)?;
        let Some(tls) = &self.tls else { return Connection::over(stream).await };
        let refused = |error| ClientError::Tls { endpoint: self.endpoint.clone(), error };
        let name = rustls_pki_types::ServerName::try_from(self.endpoint.host().to_owned())
            .map_err(|error| refused(io::Error::other(error)))?;
        Connection::over(tls.connect(name, stream).await.map_err(refused)?).await
    }

    /// Sends a request with an optional JSON body and reads the JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, ClientError> {
        let exchange = async {
            let mut connection = self.connect().await?;
            let content = body.map(|body| (Bytes::from(body.to_string()), "application/json"));
            let request = self.request(method, path, content)?;
            let response = connection.send(request).await.map_err(ClientError::Http)?;
            let response = accepted(response).await?;
            let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| ClientError::Unexpected(error.to_string()))?
                .to_bytes();
            serde_json::from_slice(&bytes).map_err(|error| ClientError::Unexpected(error.to_string()))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or(Err(ClientError::Timeout("answer")))
    }

    /// Asks for something that is not read whole: the answer's body, still to come.
    pub(crate) async fn download(
        &self,
        connection: &mut Connection,
        path: &str,
    ) -> Result<Incoming, ClientError> {
        let request = self.request(Method::GET, path, None)?;
        let head = async { accepted(connection.send(request).await.map_err(ClientError::Http)?).await };
        let head = tokio::time::timeout(ANSWER_TIMEOUT, head).await;
        Ok(head.unwrap_or(Err(ClientError::Timeout("answer")))?.into_body())
    }

    /// Begins a request whose NDJSON body flows while its answer does.
    pub(crate) async fn upload(
        &self,
        connection: &mut Connection,
        path: &str,
    ) -> Result<Upload, ClientError> {
        let (lines, body) = mpsc::channel(UPLOAD_FRAMES);
        let mut request = self.request(Method::POST, path, None)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        *request.body_mut() = Outgoing::Lines(body);
        let sent = connection.send(request);
        let head =
            async move { accepted(sent.await.map_err(ClientError::Http)?).await.map(Response::into_body) };
        let mut upload = Upload { lines: Some(lines), answer: Answer::Head(Box::pin(head)) };
        match tokio::time::timeout(HEAD_WAIT, upload.head()).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(upload),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content: Option<(Bytes, &'static str)>,
    ) -> Result<Request<Outgoing>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.endpoint.authority())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json, application/x-ndjson, application/problem+json")
            .header(AUTHORIZATION, self.bearer.header());
        if let Some((_, kind)) = content {
            request = request.header(CONTENT_TYPE, kind);
        }
        request
            .body(Outgoing::Whole(content.map(|(bytes, _)| bytes)))
            .map_err(|error| ClientError::Unexpected(error.to_string()))
    }
}

/// One connection to a gateway; closed when dropped.
pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(ClientError::Http)?;
        // Its error reaches whoever waits for an answer as well.
        let driver = tokio::spawn(async move {
            connection.await.ok();
        });
        Ok(Self { sender, driver })
    }

    fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<> {
        self.sender.send_request(request)
    }

    /// Waits until the last exchange is over; `false` when the connection cannot
    /// be used again.
    pub(crate) async fn is_reusable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request with a body that still flows.
pub(crate) struct Upload {
    /// `None` once the body is complete.
    lines: Option<mpsc::Sender<Bytes>>,
    answer: Answer,
}

enum Answer {
    Head(Pin<Box<dyn Future<Output = Result<Incoming, ClientError>> + Send>>),
    Body(Incoming),
}

impl Upload {
    /// Where the body's bytes go; `None` after [`Upload::finish`].
    pub(crate) fn lines(&self) -> Option<&mpsc::Sender<Bytes>> {
        self.lines.as_ref()
    }

    /// The two directions, to be used side by side.
    pub(crate) fn split(&mut self) -> (Option<&mpsc::Sender<Bytes>>, Download<'_>) {
        (self.lines.as_ref(), Download(&mut self.answer))
    }

    /// The body is complete.
    pub(crate) fn finish(&mut self) {
        self.lines = None;
    }

    async fn head(&mut self) -> Result<(), ClientError> {
        Download(&mut self.answer).head().await.map(drop)
    }
}

/// The answer of an [`Upload`].
pub(crate) struct Download<'a>(&'a mut Answer);

impl Download<'_> {
    /// The next bytes of the answer; `None` at its end. May be dropped and called
    /// again without a loss.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = match self.head().await?.frame().await {
                None => return Ok(None),
                Some(frame) => frame.map_err(ClientError::Http)?,
            };
            // Trailers say nothing that is needed here.
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    async fn head(&mut self) -> Result<&mut Incoming, ClientError> {
        if let Answer::Head(head) = self.0 {
            *self.0 = Answer::Body(head.await?);
        }
        match self.0 {
            Answer::Body(body) => Ok(body),
            Answer::Head(_) => Err(ClientError::Timeout("answer")),
        }
    }
}

/// A request's body.
enum Outgoing {
    Whole(Option<Bytes>),
    Lines(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Lines(lines) => {
                lines.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}
