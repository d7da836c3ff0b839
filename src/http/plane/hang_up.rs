//! Has the client of a connection hung up?
//!
//! HTTP/1.1 is not read while an answer is made, so that its client's end is noticed
//! at the next write. A stream that waits for its key's rate writes nothing, for
//! minutes where many wait for one key.

use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub(super) trait HangUp {
    /// Whether the other end has closed, or its sending half alone: nobody who waits
    /// for answers does that, as servers commonly take it.
    fn has_hung_up(&self, cx: &mut Context<'_>) -> bool;
}

impl HangUp for TcpStream {
    fn has_hung_up(&self, cx: &mut Context<'_>) -> bool {
        // The runtime was told by the kernel: no call is made, and what is unread
        // stays. Urgent data is not asked for, so only an end makes this ready.
        let ended = pin!(self.ready(Interest::PRIORITY));
        matches!(ended.poll(cx), Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl HangUp for TlsStream<TcpStream> {
    fn has_hung_up(&self, cx: &mut Context<'_>) -> bool {
        self.get_ref().0.has_hung_up(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn is_noticed(stream: &TcpStream) {
        let hung_up = std::future::poll_fn(|cx| {
            // Asked again and again, as the look-out does.
            cx.waker().wake_by_ref();
            if stream.has_hung_up(cx) { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(std::time::Duration::from_secs(30), hung_up).await.expect("noticed");
    }

    #[tokio::test]
    async fn a_client_that_hung_up_is_noticed_behind_what_it_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        for reset in [false, true] {
            let mut client = TcpStream::connect(address).await.expect("a connection");
            let (stream, _) = listener.accept().await.expect("a connection");
            client.write_all(b"not read").await.expect("written");
            stream.readable().await.expect("arrived");
            let asked = std::future::poll_fn(|cx| Poll::Ready(stream.has_hung_up(cx)));
            assert!(!asked.await, "it is there");
            if reset {
                socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).expect("set");
            }
            drop(client);
            is_noticed(&stream).await;
        }
    }
}
