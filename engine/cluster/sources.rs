//! Objects of a role's own cluster, followed by watch.
//!
//! What is not there, what is not known yet and what cannot be learned are three things, and nobody downstream can mix them
//! up: a [`Source`] says which. While the apiserver fails, what was seen last stays, together with the reason.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Objects by `namespace/name`, or `name` where there is no namespace.
pub type Objects<T> = BTreeMap<String, Arc<T>>;

/// What is known of objects that are followed.
#[derive(Debug)]
pub struct Source<T> {
    /// The objects, once a list of them was complete.
    pub seen: Option<Objects<T>>,
    /// Why they cannot be followed now.
    pub problem: Option<String>,
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        Self { seen: self.seen.clone(), problem: self.problem.clone() }
    }
}

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self { seen: None, problem: None }
    }
}

/// One object that is followed by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum One<T> {
    /// Nothing is known yet; why, if the apiserver said.
    NotYet(Option<String>),
    /// It is not there.
    Absent,
    /// It is there.
    Present(Arc<T>),
}

impl<T> Source<T> {
    /// Of a source that follows a single name: that object.
    pub fn one(&self) -> One<T> {
        match &self.seen {
            None => One::NotYet(self.problem.clone()),
            Some(objects) => objects.values().next().cloned().map_or(One::Absent, One::Present),
        }
    }
}

/// Follows the objects that a configuration selects. `keep` takes what is needed out of each, so that nothing else is held
/// in memory; `None` leaves an object out. Ends when the last receiver is gone.
pub fn follow<K, T>(
    api: Api<K>,
    selection: Config,
    keep: impl Fn(K) -> Option<T> + Send + 'static,
) -> watch::Receiver<Source<T>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(Source::default());
    tokio::spawn(async move {
        let mut events = watcher(api, selection).default_backoff().boxed();
        let mut listed: Option<Objects<T>> = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sender.closed() => return,
            };
            match event {
                None => return,
                Some(Err(error)) => {
                    let problem = said(&error);
                    sender.send_if_modified(|source| {
                        let changed = source.problem.as_ref() != Some(&problem);
                        source.problem = Some(problem.clone());
                        changed
                    });
                }
                Some(Ok(Event::Init)) => listed = Some(Objects::new()),
                Some(Ok(Event::InitApply(object))) => {
                    let name = name_of(&object);
                    if let (Some(listed), Some(kept)) = (&mut listed, keep(object)) {
                        listed.insert(name, Arc::new(kept));
                    }
                }
                Some(Ok(Event::InitDone)) => {
                    let seen = Some(listed.take().unwrap_or_default());
                    sender.send_replace(Source { seen, problem: None });
                }
                Some(Ok(Event::Apply(object))) => {
                    let name = name_of(&object);
                    let kept = keep(object).map(Arc::new);
                    sender.send_modify(|source| {
                        source.problem = None;
                        let seen = source.seen.get_or_insert_default();
                        match kept {
                            Some(kept) => drop(seen.insert(name, kept)),
                            None => drop(seen.remove(&name)),
                        }
                    });
                }
                Some(Ok(Event::Delete(object))) => {
                    let name = name_of(&object);
                    sender.send_modify(|source| {
                        source.problem = None;
                        drop(source.seen.get_or_insert_default().remove(&name));
                    });
                }
            }
        }
    });
    receiver
}

/// Follows one ConfigMap by its name, for its data.
pub fn follow_config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> watch::Receiver<Source<BTreeMap<String, String>>> {
    let selection = Config::default().fields(&format!("metadata.name={name}"));
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    follow(api, selection, |object| Some(object.data.unwrap_or_default()))
}

fn name_of<K: Resource>(object: &K) -> String {
    let name = object.meta().name.as_deref().unwrap_or_default();
    object.meta().namespace.as_ref().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// An error of the apiserver in one line.
fn said(error: &kube::runtime::watcher::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = inner.source();
    }
    text
}
