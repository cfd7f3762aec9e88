//! What a peer is given of the apiserver's answers: of each object the fields of a table and nothing else.
//!
//! The api-proxy gives no more of its cluster, and the relay of a reader takes no more from a peer: that one may run another
//! api-proxy, or one that lies.
//!
//! The apiserver's answer is JSON, and is written anew object by object while it comes: a list, a watch, or one object. At most
//! one object is held. What cannot be read ends the answer with an error, and does not pass. Bookmarks and errors of a watch
//! pass with their own fields. A list that comes in protobuf becomes the same list in JSON first.

mod budget;
mod fields;
mod list;
mod object;
mod protobuf;
mod scan;
mod selector;
mod shape;
mod shown;
mod view;

pub use budget::HeldBudget;
pub use fields::{KINDS, SHOWN_DEFINITIONS};
pub use object::MAX_OBJECT;
pub(in crate::roles) use protobuf::status as protobuf_status;
pub use protobuf::{KINDS_IN_PROTOBUF, Presence, ProtobufField, ProtobufKind, ProtobufList, ProtobufType};
pub use shape::{Shape, ShownField, ShownKind};
pub use shown::Visible;
pub use view::{Mark, View};

use bytes::Bytes;
use memchr::memchr;

use crate::roles::api::request::Verb;
use crate::server::misread::Misread;
use crate::server::stream::StreamTransform;
use budget::HeldBytes;
use list::ListProjection;
use object::{PeerVisibility, SHOWN_PART, blank};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    Object,
    /// A list of objects.
    List,
    /// One event a line.
    Watch,
}

impl AnswerForm {
    /// That of the answer to a request.
    pub fn of(verb: Verb) -> Self {
        match verb {
            Verb::Get => Self::Object,
            Verb::List => Self::List,
            Verb::Watch => Self::Watch,
        }
    }
}

impl Visible {
    /// The projection of one answer.
    pub fn projection(&self, form: AnswerForm) -> Projection {
        let reader = match form {
            AnswerForm::Object => ProjectionReader::Object,
            AnswerForm::List => ProjectionReader::List(ListProjection::default()),
            AnswerForm::Watch => ProjectionReader::Watch,
        };
        Projection { shown: self.clone(), reader, held: Vec::new(), counted: None }
    }

    /// The projection of a list as the events that a watch begins with.
    pub fn initial_events(&self) -> InitialEvents {
        InitialEvents { shown: self.clone(), list: ListProjection::as_events(), held: Vec::new() }
    }
}

/// What is shown of a `Status`, by which the apiserver says why it does not answer.
pub(in crate::roles) fn status(text: &[u8]) -> Result<Vec<u8>, Misread> {
    let mut out = Vec::new();
    object::write_object(text, fields::STATUS, PeerVisibility::default(), &mut out)?;
    Ok(out)
}

/// A list on its way to a peer that asked for a watch which begins with what there is.
#[derive(Debug)]
pub struct InitialEvents {
    shown: Visible,
    list: ListProjection,
    held: Vec<u8>,
}

impl InitialEvents {
    /// The events of the next part.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Bytes, Misread> {
        let mut out = Vec::new();
        self.held.extend_from_slice(chunk);
        self.list.push(&mut self.held, &self.shown, &mut out)?;
        Ok(out.into())
    }

    /// The last events, the one that ends them included, and the version from which the watch continues.
    pub fn finish(self) -> Result<(Bytes, String), Misread> {
        let mut out = Vec::new();
        let version = self.list.finish_events(&self.held, &self.shown, &mut out)?;
        Ok((out.into(), version))
    }
}

/// An answer on its way to a peer.
#[derive(Debug)]
pub struct Projection {
    shown: Visible,
    reader: ProjectionReader,
    /// The beginning of what has not come whole.
    held: Vec<u8>,
    counted: Option<HeldBytes>,
}

impl Projection {
    /// The same, which holds no more than this has room for.
    #[must_use]
    pub fn within(self, budget: &HeldBudget) -> Self {
        Self { counted: Some(budget.begin()), ..self }
    }
}

#[derive(Debug)]
enum ProjectionReader {
    Object,
    List(ListProjection),
    Watch,
}

impl StreamTransform for Projection {
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, Misread> {
        let mut out = Vec::new();
        match &mut self.reader {
            ProjectionReader::Object => self.held.extend_from_slice(&chunk),
            ProjectionReader::List(list) => {
                self.held.extend_from_slice(&chunk);
                list.push(&mut self.held, &self.shown, &mut out)?;
            }
            ProjectionReader::Watch => {
                let mut rest: &[u8] = &chunk;
                while let Some(end) = memchr(b'\n', rest) {
                    let (line, after) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
                    let length = self.held.len() + line.len();
                    if length > MAX_OBJECT {
                        return Err(Misread::TooLarge(MAX_OBJECT));
                    }
                    let line = if self.held.is_empty() {
                        line
                    } else {
                        self.held.extend_from_slice(line);
                        &self.held
                    };
                    if blank(line) < line.len() {
                        out.reserve(line.len() / SHOWN_PART);
                        self.shown.write_event(line, &mut out)?;
                    }
                    self.held.clear();
                    rest = after;
                }
                self.held.extend_from_slice(rest);
            }
        }
        if self.held.len() > MAX_OBJECT && !matches!(self.reader, ProjectionReader::List(_)) {
            return Err(Misread::TooLarge(MAX_OBJECT));
        }
        if let Some(counted) = &mut self.counted {
            counted.are(self.held.len())?;
        }
        if self.held.is_empty() {
            // an idle watch holds nothing
            self.held = Vec::new();
        }
        Ok(out.into())
    }

    fn finish(&mut self) -> Result<Bytes, Misread> {
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::new();
        match &mut self.reader {
            ProjectionReader::Object => {
                if !self.shown.write_object(&held, &mut out)? {
                    return Err(Misread::Shape);
                }
            }
            ProjectionReader::List(list) => list.finish(&held, &self.shown, &mut out)?,
            ProjectionReader::Watch if blank(&held) == held.len() => {}
            ProjectionReader::Watch => return Err(Misread::Incomplete),
        }
        Ok(out.into())
    }
}
