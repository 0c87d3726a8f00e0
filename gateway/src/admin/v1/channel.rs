//! A response that goes on: a task writes pieces, the connection sends them as fast as its client takes them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame};
use serde::Serialize;
use std::convert::Infallible;
use tokio::sync::mpsc;

use super::gates::{Gates, Place};
use crate::admin::metrics::Counted;
use crate::admin::problem::Problem;

/// Pieces between the task and the connection.
const PIECES: usize = 4;

/// The task's end. Without a reader, everything it is given goes nowhere and it says so.
pub(super) struct Feed {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

/// The reader has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The connection's end. It keeps the place among the permitted until it is dropped.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    /// Comes when the listener ends, and with it the response: nothing is cut.
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
    _counted: Counted,
}

/// Both ends, if there is a place.
pub(super) fn channel(gates: &Gates) -> Result<(Feed, Body), Problem> {
    let place = gates.watch()?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let stopped = Box::pin(gates.stopped());
    let pieces = Pieces { receiver, stopped, _place: place, _counted: Counted::new("gateway_admin_watches") };
    Ok((Feed { sender, buffer: Vec::new() }, Body::new(pieces)))
}

impl Feed {
    /// One line of JSON.
    pub(super) fn line(&mut self, value: &impl Serialize) {
        // Values of this crate have string keys and write into memory: nothing can go wrong.
        let _ = serde_json::to_writer(&mut self.buffer, value);
        self.buffer.push(b'\n');
    }

    /// One Server-Sent Event. JSON has no line break in it, so one `data` line holds it.
    pub(super) fn event(&mut self, name: &str, id: Option<u64>, value: &impl Serialize) {
        if let Some(id) = id {
            self.buffer.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        self.buffer.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
        self.line(value);
        self.buffer.push(b'\n');
    }

    /// Sends what was written, once there is room.
    pub(super) async fn send(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.send(bytes).await.map_err(|_| Gone)
    }

    /// Comes when the reader has gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(piece) = self.receiver.poll_recv(cx) {
            return Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))));
        }
        ready!(self.stopped.as_mut().poll(cx));
        Poll::Ready(None)
    }
}
