//! What is kept of tokens that were good: verdicts, so that a signature is checked once; and which were shown.
//!
//! A token is known by its SHA-256, which is of all its bytes: whatever differs is judged anew. Refusals are not kept, since
//! strangers could fill any memory with them. Times are judged at every request.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::types::name::Digest;
use crate::types::time::Timestamp;
use crate::types::token::{Expectation, KeyLookup, LEEWAY, Rejected, Verified, bearer, verify};

/// Verdicts that are kept of one peer: its tokens and those of its next key, for each of its replicas.
const OF_ONE: usize = 32;
/// Tokens whose replay is refused. Each lives for minutes, and peers show a few a second.
const MAX_SHOWN: usize = 100_000;

/// Verdicts on tokens, under the peers `K` that they were judged by.
#[derive(Debug)]
pub(crate) struct Verdicts<K>(Mutex<KeptVerdicts<K>>);

#[derive(Debug)]
struct KeptVerdicts<K> {
    /// The same peers, not equal ones.
    under: Option<Arc<K>>,
    by_digest: HashMap<Digest, Arc<Verified>>,
    /// Those of each peer, the oldest first.
    of_peer: HashMap<String, VecDeque<Digest>>,
}

impl<K> Default for Verdicts<K> {
    fn default() -> Self {
        Self(Mutex::new(KeptVerdicts { under: None, by_digest: HashMap::new(), of_peer: HashMap::new() }))
    }
}

impl<K: KeyLookup> Verdicts<K> {
    /// Judges the `Authorization` values of a request, as [`verify`] does. The audience, the scope and the longest life have to be
    /// the same for all requests that are judged by the same peers. `first` may refuse whatever is not known yet, before a
    /// signature is checked.
    pub(crate) fn judge<E: From<Rejected>>(
        &self,
        values: &[&str],
        expected: &Expectation<'_>,
        peers: &Arc<K>,
        first: impl FnOnce() -> Result<(), E>,
    ) -> Result<Arc<Verified>, E> {
        let digest = bearer(values).map(|token| Digest::of(token.as_bytes()));
        let known =
            digest.as_ref().ok().and_then(|digest| self.kept(peers, |kept| kept.by_digest.get(digest).cloned()));
        if let Some(known) = known {
            known.is_valid_at(expected.now)?;
            return Ok(known);
        }
        first()?;
        let verified = Arc::new(verify(values, expected, &**peers)?);
        let digest = digest?;
        self.kept(peers, |kept| kept.keep(digest, verified.clone()));
        Ok(verified)
    }

    /// Works on what is kept under these peers; under others everything is forgotten.
    fn kept<T>(&self, peers: &Arc<K>, work: impl FnOnce(&mut KeptVerdicts<K>) -> T) -> T {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.under.as_ref().is_some_and(|under| Arc::ptr_eq(under, peers)) {
            kept.by_digest.clear();
            kept.of_peer.clear();
            kept.under = Some(peers.clone());
        }
        work(&mut kept)
    }
}

impl<K> KeptVerdicts<K> {
    fn keep(&mut self, digest: Digest, verified: Arc<Verified>) {
        if !self.of_peer.contains_key(&verified.claims.sub) {
            self.of_peer.insert(verified.claims.sub.clone(), VecDeque::new());
        }
        let Some(order) = self.of_peer.get_mut(&verified.claims.sub) else { return };
        if self.by_digest.insert(digest, verified).is_some() {
            return;
        }
        order.push_back(digest);
        if order.len() > OF_ONE
            && let Some(oldest) = order.pop_front()
        {
            self.by_digest.remove(&oldest);
        }
    }
}

/// Tokens that were shown, each until no one would admit it any more.
#[derive(Debug, Default)]
pub(crate) struct ShownTokens(Mutex<HashMap<Digest, Timestamp>>);

impl ShownTokens {
    /// Whether a token was shown before.
    pub(crate) fn has(&self, values: &[&str]) -> bool {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bearer(values).is_ok_and(|token| shown.contains_key(&Digest::of(token.as_bytes())))
    }

    /// Notes that a good token is shown, which may be once. Where there is no room left it is refused as well.
    pub(crate) fn once(&self, values: &[&str], expires: Timestamp, now: Timestamp) -> Result<(), Rejected> {
        let digest = Digest::of(bearer(values)?.as_bytes());
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() >= MAX_SHOWN {
            shown.retain(|_, until| *until >= now);
        }
        if shown.len() >= MAX_SHOWN || shown.contains_key(&digest) {
            return Err(Rejected::Replayed);
        }
        shown.insert(digest, expires + LEEWAY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use crate::types::key::{PrivateKey, PublicKey};
    use crate::types::token::{Claims, ISSUER, Scope, mint};

    const OWN: &str = "00000000-0000-4000-8000-000000000001";
    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn key() -> PrivateKey {
        PrivateKey::generate(&[7; 32]).unwrap()
    }

    /// How often keys were looked up, which is as often as a signature was checked.
    #[derive(Default)]
    struct CountingPeers {
        keys: Vec<PublicKey>,
        asked: AtomicUsize,
    }

    impl KeyLookup for CountingPeers {
        fn keys(&self, _subject: &str, _kid: Option<&str>) -> Vec<PublicKey> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.keys.clone()
        }
    }

    fn peers() -> Arc<CountingPeers> {
        Arc::new(CountingPeers { keys: vec![key().public().clone()], asked: AtomicUsize::default() })
    }

    fn token(sub: u32, exp: Timestamp) -> String {
        let claims = Claims {
            aud: OWN.to_owned(),
            exp,
            iss: ISSUER.to_owned(),
            nbf: NOW,
            scope: Scope::Api,
            sub: format!("00000000-0000-4000-8000-{sub:012}"),
        };
        format!("Bearer {}", mint(&key(), &claims, None).expose())
    }

    fn expected(now: Timestamp) -> Expectation<'static> {
        Expectation { audience: OWN, scope: Scope::Api, now, max_lifetime: Scope::Api.max_lifetime() }
    }

    /// Judged with nothing before.
    fn judge(
        verdicts: &Verdicts<CountingPeers>,
        values: &[&str],
        now: Timestamp,
        peers: &Arc<CountingPeers>,
    ) -> Result<Arc<Verified>, Rejected> {
        verdicts.judge(values, &expected(now), peers, || Ok(()))
    }

    #[test]
    fn a_signature_is_checked_once_and_the_times_at_every_request() {
        let (verdicts, peers, minute) = (Verdicts::default(), peers(), Duration::from_mins(1));
        let token = token(1, NOW + minute);
        for _ in 0..3 {
            assert!(judge(&verdicts, &[&token], NOW, &peers).is_ok());
        }
        assert_eq!(peers.asked.load(Ordering::Relaxed), 1);
        assert_eq!(judge(&verdicts, &[&token], NOW + minute * 3, &peers), Err(Rejected::Expired));
        assert_eq!(judge(&verdicts, &[&token], NOW - minute * 2, &peers), Err(Rejected::NotYet));
        assert_eq!(judge(&verdicts, &[&token, &token], NOW, &peers), Err(Rejected::SeveralHeaders));
        // one that differs in anything is another
        assert!(judge(&verdicts, &[&format!("{token}A")], NOW, &peers).is_err());
        assert_eq!(peers.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_known_needs_no_leave() {
        let (verdicts, peers) = (Verdicts::default(), peers());
        let [known, other] = [60, 61].map(|seconds| token(1, NOW + Duration::from_secs(seconds)));
        assert!(judge(&verdicts, &[&known], NOW, &peers).is_ok());
        let hurried = |values: &[&str]| verdicts.judge(values, &expected(NOW), &peers, || Err(Rejected::Lifetime));
        assert!(hurried(&[&known]).is_ok());
        for values in [&[other.as_str()][..], &[], &["Basic x"]] {
            assert_eq!(hurried(values), Err(Rejected::Lifetime));
        }
        assert_eq!(peers.asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn other_peers_are_asked_anew() {
        let (verdicts, before) = (Verdicts::default(), peers());
        let token = token(1, NOW + Duration::from_mins(1));
        assert!(judge(&verdicts, &[&token], NOW, &before).is_ok());
        let others = Arc::new(CountingPeers::default());
        assert_eq!(judge(&verdicts, &[&token], NOW, &others), Err(Rejected::UnknownKey));
        assert!(judge(&verdicts, &[&token], NOW, &before).is_ok());
        assert_eq!(before.asked.load(Ordering::Relaxed), 2, "what was known of them is forgotten");
    }

    #[test]
    fn a_peer_displaces_its_own_verdicts_only() {
        let (verdicts, peers) = (Verdicts::default(), peers());
        let judge = |token: &str| drop(judge(&verdicts, &[token], NOW, &peers).unwrap());
        let later = |seconds| NOW + Duration::from_secs(seconds);
        let other = token(2, later(60));
        judge(&other);
        for seconds in 0..200 {
            judge(&token(1, later(60 + seconds)));
        }
        let asked = peers.asked.load(Ordering::Relaxed);
        judge(&other);
        judge(&token(1, later(60 + 199)));
        assert_eq!(peers.asked.load(Ordering::Relaxed), asked, "both are still known");
        judge(&token(1, later(60)));
        assert_eq!(peers.asked.load(Ordering::Relaxed), asked + 1);
        assert_eq!(verdicts.0.lock().unwrap().by_digest.len(), OF_ONE + 1);
    }

    #[test]
    fn a_token_may_be_shown_once() {
        let (shown, peers) = (ShownTokens::default(), peers());
        let [first, second] = [60, 61].map(|seconds| token(1, NOW + Duration::from_secs(seconds)));
        let show =
            |token: &str, now| shown.once(&[token], verify(&[token], &expected(now), &*peers).unwrap().claims.exp, now);
        assert_eq!(show(&first, NOW), Ok(()));
        assert_eq!(show(&first, NOW), Err(Rejected::Replayed));
        assert_eq!(show(&second, NOW), Ok(()));
        // a token is admitted for as long as clocks may differ
        assert_eq!(show(&first, NOW + Duration::from_secs(119)), Err(Rejected::Replayed));
    }

    #[test]
    fn tokens_that_were_shown_are_forgotten_when_no_verifier_would_admit_them() {
        let shown = ShownTokens::default();
        let until = |index: usize| NOW + Duration::from_secs(u64::from(index >= 10));
        shown.0.lock().unwrap().extend((0..MAX_SHOWN).map(|index| (Digest::of(&index.to_be_bytes()), until(index))));
        let peers = peers();
        let token = token(1, NOW + Duration::from_mins(1));
        let show = |now| shown.once(&[&token], verify(&[&token], &expected(now), &*peers).unwrap().claims.exp, now);
        assert_eq!(show(NOW), Err(Rejected::Replayed), "no room");
        assert_eq!(show(NOW + Duration::from_secs(1)), Ok(()));
        assert_eq!(shown.0.lock().unwrap().len(), MAX_SHOWN - 10 + 1);
    }
}
