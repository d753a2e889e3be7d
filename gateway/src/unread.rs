//! Bodies that an answer leaves unread (413, 401, 503 at the door). HTTP/1.1 then cannot go on with the connection, so
//! the answer says that it closes, and the close waits for what is still being sent: a socket closed over unread bytes
//! is reset, and the reset can overtake the answer.
//! Deliberately absent: reading such bodies to keep their connections; strangers do not choose how much we read.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Version, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tower::ServiceExt as _;

/// How long what is still being sent is taken and thrown away.
const LINGER: Duration = Duration::from_secs(5);

/// Whether a connection has a body that nobody read; shared by its stream and its requests.
#[derive(Debug, Clone, Default)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Answers a request, and says so when the connection ends with it.
    pub async fn answer(
        self,
        router: Router,
        request: Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let one_at_a_time = request.version() < Version::HTTP_2;
        let ended = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let request = request.map(|body| {
            axum::body::Body::new(Watched {
                body,
                ended: Arc::clone(&ended),
            })
        });
        let Ok(mut response) = router.oneshot(request).await;
        // On HTTP/2 a body is its stream's affair, and the connection goes on.
        if one_at_a_time && !ended.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

/// Notes when a body was read to its end.
struct Watched {
    body: Incoming,
    ended: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that lingers when it ends over an unread body.
pub struct Lingering {
    stream: TcpStream,
    unread: Unread,
    /// Set once our end has said all; the rest is theirs.
    until: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    /// Lingers when `unread` says so.
    pub fn new(stream: TcpStream, unread: Unread) -> Self {
        Self {
            stream,
            unread,
            until: None,
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.until.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let until = this
            .until
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        let mut waste = [0; 16 * 1024];
        while until.as_mut().poll(context).is_pending() {
            let mut into = ReadBuf::new(&mut waste);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut into));
            // They have hung up, or said all.
            if read.is_err() || into.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
