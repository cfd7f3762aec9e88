//! Errors and what caused them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// An error of a library that neither clones nor compares: shared, and equal to one that says the same with its causes.
/// Its text is that of the error, and so are its causes.
pub struct Cause<E>(Arc<E>);

impl<E> From<E> for Cause<E> {
    fn from(error: E) -> Self {
        Self(Arc::new(error))
    }
}

impl<E> Clone for Cause<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Error + 'static> PartialEq for Cause<E> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || in_full(&*self.0) == in_full(&*other.0)
    }
}

impl<E: Error + 'static> Eq for Cause<E> {}

impl<E: fmt::Display> fmt::Display for Cause<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As for people: what a library keeps beside its message may be what it misread.
impl<E: fmt::Display> fmt::Debug for Cause<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> Error for Cause<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The first error of a type in a chain. `io::Error` hides what it wraps from `source`, so it is opened by hand.
pub(crate) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let wrapped = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static));
    wrapped.and_then(find).or_else(|| error.source().and_then(find))
}

/// What caused an error, the nearest first; what only repeats the one before is left out.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if text != last {
            causes.push(text.clone());
            last = text;
        }
        cause = inner.source();
    }
    causes
}

/// An error with its causes in one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut full = error.to_string();
    for cause in causes(error) {
        if !full.contains(&cause) {
            full = format!("{full}: {cause}");
        }
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Connect(#[source] std::io::Error);

    #[test]
    fn a_cause_is_equal_to_what_says_the_same_with_its_causes_and_is_no_link_of_the_chain() {
        let connect = |reason: &str| Cause::from(Connect(std::io::Error::other(reason.to_owned())));
        let refused = connect("refused");
        assert_eq!(refused, refused.clone());
        assert_eq!(refused, connect("refused"));
        assert_ne!(refused, connect("reset"));
        assert_eq!(
            (format!("{refused} {refused:?}"), in_full(&refused)),
            ("cannot connect cannot connect".to_owned(), "cannot connect: refused".to_owned())
        );
    }
}
