//! A watch that begins with what there is: a list of the apiserver as events, and the watch that continues from it.
//!
//! client-go begins so by default since 1.35. An apiserver encodes each event of such a watch by itself, and the object in it twice,
//! which takes it twice as long as the same list.
//! A watch that cannot be continued is asked for again some times, and ends after what was listed, in good order: its reader asks again,
//! and a watch that ends within a second would have it list again.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::time::{Instant, timeout_at};

use crate::roles::api::projection::{AnswerForm, InitialEvents, Projection, Visible};
use crate::roles::proxy::refusal::ProxyRefusal;
use crate::roles::watches::PeerShare;
use crate::server::stream::StreamTransform as _;
use crate::server::{Body, BodyError};
use crate::types::name::ClusterUuid;

/// What comes next of it. Most of its time it is an idle watch, so what is needed until then has a place of its own.
enum ListedWatch {
    List(Box<Listing>),
    /// All is written that was listed.
    Continues(BoxFuture<'static, Result<Body, ProxyRefusal>>, Visible),
    Watch(Body, Box<Projection>),
    Over,
}

/// A list on its way, until when it is to be over, and the place that a long one has until then.
struct Listing {
    list: Body,
    events: InitialEvents,
    shown: Visible,
    watch: Box<dyn FnOnce(String) -> BoxFuture<'static, Result<Body, ProxyRefusal>> + Send>,
    until: Instant,
    _place: Option<PeerShare<ClusterUuid>>,
}

/// The answer to a watch, projected: a list of a place and a time, and what `watch` opens from the version that it is of.
pub(super) fn listed_watch<W>(
    list: Body,
    (place, until): (Option<PeerShare<ClusterUuid>>, Instant),
    shown: &Visible,
    watch: impl FnOnce(String) -> W + Send + 'static,
) -> Body
where
    W: Future<Output = Result<Body, ProxyRefusal>> + Send + 'static,
{
    let (events, shown) = (shown.initial_events(), shown.clone());
    let watch = Box::new(move |version| watch(version).boxed());
    let begin = ListedWatch::List(Box::new(Listing { list, events, shown, watch, until, _place: place }));
    let parts = stream::unfold(begin, |at| async move {
        let (part, next) = at.next().await?;
        Some((part.map(Frame::data), next))
    });
    StreamBody::new(parts).boxed_unsync()
}

impl ListedWatch {
    /// The next bytes, which may be none, and what follows.
    async fn next(self) -> Option<(Result<Bytes, BodyError>, Self)> {
        match self {
            // a reader that takes little by little finds a part each time
            Self::List(listing) if Instant::now() >= listing.until => Some((Err(BodyError::Stalled), Self::Over)),
            Self::List(mut listing) => match timeout_at(listing.until, listing.list.frame()).await {
                Err(_) => Some((Err(BodyError::Stalled), Self::Over)),
                Ok(Some(Err(error))) => Some((Err(error), Self::Over)),
                Ok(Some(Ok(frame))) => match listing.events.push(&frame.into_data().unwrap_or_default()) {
                    Ok(part) => Some((Ok(part), Self::List(listing))),
                    Err(misread) => Some((Err(misread.into()), Self::Over)),
                },
                Ok(None) => match listing.events.finish() {
                    Ok((part, version)) => Some((Ok(part), Self::Continues((listing.watch)(version), listing.shown))),
                    Err(misread) => Some((Err(misread.into()), Self::Over)),
                },
            },
            Self::Continues(watch, shown) => match watch.await {
                Ok(body) => Some((Ok(Bytes::new()), Self::Watch(body, Box::new(shown.projection(AnswerForm::Watch))))),
                Err(refusal) => {
                    tracing::warn!(%refusal, "a watch was not continued after its list");
                    None
                }
            },
            Self::Watch(mut body, mut projection) => match body.frame().await {
                None => Some((projection.finish().map_err(Into::into), Self::Over)),
                Some(Err(error)) => Some((Err(error), Self::Over)),
                Some(Ok(frame)) => match projection.push(frame.into_data().unwrap_or_default()) {
                    Ok(part) => Some((Ok(part), Self::Watch(body, projection))),
                    Err(misread) => Some((Err(misread.into()), Self::Over)),
                },
            },
            Self::Over => None,
        }
    }
}
