//! How a table says what is shown of an object.

/// A kind of object.
#[derive(Debug, PartialEq, Eq)]
pub struct ShownKind {
    /// API group; empty for core.
    pub group: &'static str,
    /// The resource, as in a path.
    pub resource: &'static str,
    /// What is shown of each object.
    pub fields: &'static [ShownField],
}

/// A field that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownField {
    /// Its key in JSON.
    pub name: &'static str,
    /// What is shown of its value.
    pub shape: Shape,
    /// What reads it and for what; empty where the fields within it state it.
    pub read_by: &'static str,
}

/// What is shown of a value. Where there is `null`, `null` is shown; any other value of another type is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text, a number, or true or false.
    Value,
    /// The same, where it is one of these; else the object that has it, or lacks it, is not shown.
    OneOf(&'static [&'static str]),
    /// A list of texts, numbers, or true or false.
    Values,
    /// A map of texts or numbers: all of it but these keys.
    Entries {
        /// Keys that are not shown.
        but: &'static [&'static str],
    },
    /// A map of texts or numbers: these keys alone.
    EntriesOf(&'static [&'static str]),
    /// An object: these fields alone.
    Object(&'static [ShownField]),
    /// A list of objects: these fields of each.
    Each(&'static [ShownField]),
    /// The cluster's own network, whatever is there, and also if nothing is. While it is not known, the object is not shown.
    Network,
    /// When it was created; a reader takes it as later than anything of its own, whatever is there.
    Created,
    /// A namespace that the peer is shared; else the object that has it, or lacks it, is not shown.
    SharedNamespace,
    /// The namespace of the peer's own istiod; else the object that has it, or lacks it, is not shown.
    SystemNamespace,
    /// A version of the apiserver's, marked with [what the peer sees](super::View).
    ResourceVersion,
}

/// Whether a field of this shape is among these, or within them.
pub(super) fn has(fields: &[ShownField], wanted: Shape) -> bool {
    fields.iter().any(|field| match field.shape {
        Shape::Object(fields) | Shape::Each(fields) => has(fields, wanted),
        Shape::Value
        | Shape::OneOf(_)
        | Shape::Values
        | Shape::Entries { .. }
        | Shape::EntriesOf(_)
        | Shape::Network
        | Shape::Created
        | Shape::SharedNamespace
        | Shape::SystemNamespace
        | Shape::ResourceVersion => field.shape == wanted,
    })
}

/// What is shown of a field; `None`: nothing.
pub(super) fn shape_of(fields: &[ShownField], name: &str) -> Option<Shape> {
    fields.iter().find(|field| field.name == name).map(|field| field.shape)
}

/// Whether an object of this name may be shown.
pub(super) fn may_be_named(fields: &[ShownField], name: &str) -> bool {
    let Some(Shape::Object(metadata)) = shape_of(fields, "metadata") else { return false };
    match shape_of(metadata, "name") {
        Some(Shape::OneOf(names)) => names.contains(&name),
        shape => shape.is_some(),
    }
}
