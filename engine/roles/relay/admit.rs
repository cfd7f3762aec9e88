//! The strict option: whoever asks shows a ServiceAccount's token of audience `isthmus-relay`, and has to be istiod.
//!
//! Any pod may have a token of any audience projected for its own account, so the audience alone says nothing: the account
//! has to be an istiod's (`istiod`, or `istiod-<revision>`) of the relay's namespace. A token of another audience is never
//! taken, so istiod's own token for the apiserver does not have to be shown here. Judgements are kept for a
//! minute at most, and the apiserver is asked about a token once at a time, and about few at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use zeroize::Zeroizing;

use crate::roles::relay::store::{self, Fault};
use crate::types::name::{Digest, Namespace};
use crate::wire::names::RELAY_AUDIENCE;

/// How long a token counts as good.
const GOOD_FOR: Duration = Duration::from_mins(1);
/// How long it counts as bad.
const BAD_FOR: Duration = Duration::from_secs(5);
/// How long the apiserver may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most judgements that are kept.
const MAX_KEPT: usize = 1000;
/// Most tokens that the apiserver is asked about at a time.
const MAX_ASKING: usize = 8;
/// Most bytes of a token.
const MAX_TOKEN: usize = 8 * 1024;

/// Why someone is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAdmitted {
    /// The token is missing, or bad, or someone else's.
    #[error("Unauthorized")]
    Refused,
    /// Too many tokens are being judged.
    #[error("too many tokens are being judged")]
    Busy,
    /// The apiserver did not say.
    #[error("the apiserver cannot be asked about the token")]
    Unknown(#[source] Fault),
}

/// A review that is under way, for all who showed the token.
type Review = Shared<BoxFuture<'static, Result<bool, Fault>>>;

/// Judges tokens.
pub(super) struct TokenReviewer {
    reviews: Api<TokenReview>,
    namespace: Namespace,
    kept: Mutex<HashMap<Digest, (bool, Instant)>>,
    asking: Mutex<HashMap<Digest, Review>>,
}

/// A token that someone shows.
#[derive(Clone)]
pub(super) struct ShownToken {
    text: Zeroizing<String>,
    digest: Digest,
}

impl ShownToken {
    /// The one token of a request.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, NotAdmitted> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(NotAdmitted::Refused) };
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN).ok_or(NotAdmitted::Refused)?;
        Ok(Self { text: Zeroizing::new(token.to_owned()), digest: Digest::of(token.as_bytes()) })
    }
}

impl TokenReviewer {
    pub(super) fn new(client: &Client, namespace: &Namespace) -> Self {
        let (reviews, namespace) = (Api::all(client.clone()), namespace.clone());
        Self { reviews, namespace, kept: Mutex::default(), asking: Mutex::default() }
    }

    /// What is known of a token without asking anyone.
    pub(super) fn known(&self, token: &ShownToken) -> Option<bool> {
        self.kept(&token.digest)
    }

    /// Judges a token. Whoever shows one that is being judged waits for the same answer.
    pub(super) async fn admit(&self, token: &ShownToken) -> Result<(), NotAdmitted> {
        let good = match self.kept(&token.digest) {
            Some(good) => good,
            None => self.review(token)?.await.map_err(NotAdmitted::Unknown).inspect(|good| {
                self.keep(token.digest, *good);
            })?,
        };
        if good { Ok(()) } else { Err(NotAdmitted::Refused) }
    }

    fn review(&self, token: &ShownToken) -> Result<Review, NotAdmitted> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // those that ended, and those that no one waits for any more
        asking.retain(|_, review| review.peek().is_none() && review.strong_count().is_some_and(|count| count > 1));
        if let Some(review) = asking.get(&token.digest) {
            return Ok(review.clone());
        }
        if asking.len() >= MAX_ASKING {
            return Err(NotAdmitted::Busy);
        }
        let review = ask(self.reviews.clone(), self.namespace.clone(), token.text.clone()).boxed().shared();
        asking.insert(token.digest, review.clone());
        Ok(review)
    }

    fn kept(&self, digest: &Digest) -> Option<bool> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(digest).filter(|(_, until)| Instant::now() < *until).map(|(good, _)| *good)
    }

    fn keep(&self, digest: Digest, good: bool) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (_, until)| now < *until);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(digest, (good, now + if good { GOOD_FOR } else { BAD_FOR }));
        }
    }
}

async fn ask(reviews: Api<TokenReview>, namespace: Namespace, token: Zeroizing<String>) -> Result<bool, Fault> {
    let spec = TokenReviewSpec { token: Some(token.to_string()), audiences: Some(vec![RELAY_AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let params = PostParams::default();
    let answer = store::waited(PATIENCE, reviews.create(&params, &review)).await?;
    Ok(answer.status.is_some_and(|status| is_istiod(&status, &namespace)))
}

/// Whether a review says that this is an istiod of the namespace. An apiserver that knows no audiences leaves them out, and
/// then the token was not judged for ours.
fn is_istiod(status: &TokenReviewStatus, namespace: &Namespace) -> bool {
    let audience = status.audiences.as_ref().is_some_and(|audiences| audiences.iter().any(|a| a == RELAY_AUDIENCE));
    let user = status.user.as_ref().and_then(|user| user.username.as_deref()).unwrap_or_default();
    let account = user.strip_prefix(&format!("system:serviceaccount:{namespace}:")).unwrap_or_default();
    status.authenticated == Some(true) && audience && (account == "istiod" || account.starts_with("istiod-"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    #[test]
    fn only_an_istiod_of_the_namespace_with_our_audience_is_let_in() {
        let judge = |authenticated, audience: Option<&str>, user: &str| {
            let status = TokenReviewStatus {
                authenticated,
                audiences: audience.map(|audience| vec![audience.to_owned()]),
                user: Some(UserInfo { username: Some(user.to_owned()), ..UserInfo::default() }),
                ..TokenReviewStatus::default()
            };
            is_istiod(&status, &Namespace::istio_system())
        };
        let (istiod, ours) = ("system:serviceaccount:istio-system:istiod", Some(RELAY_AUDIENCE));
        assert!(judge(Some(true), ours, istiod));
        assert!(judge(Some(true), ours, &format!("{istiod}-canary")));
        for (authenticated, audience, user) in [
            (Some(false), ours, istiod),
            (None, ours, istiod),
            (Some(true), None, istiod),
            (Some(true), Some("istio-ca"), istiod),
            (Some(true), ours, "system:serviceaccount:default:istiod"),
            (Some(true), ours, "system:serviceaccount:istio-system:istiodx"),
            (Some(true), ours, "system:serviceaccount:istio-system:default"),
            (Some(true), ours, "istiod"),
        ] {
            assert!(!judge(authenticated, audience, user), "{authenticated:?} {audience:?} {user}");
        }
    }
}
