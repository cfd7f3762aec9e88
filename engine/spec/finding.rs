//! What can be wrong with a spec.
#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::ops::RangeInclusive;

use granit_parser::ErrorKind;

use crate::model::lock::LEAVE_DIRECT;
use crate::model::policy::InvalidImagePattern;
use crate::types::diagnostic::did_you_mean;
use crate::types::duration::InvalidDuration;
use crate::types::explanation::{Code, Explain, Explanation};
use crate::types::name::InvalidName;
use crate::types::text::{LONGEST_QUOTED, quoted};

/// What is found where something else is expected.
#[derive(Debug, Clone, Copy)]
pub(super) enum FoundValue<'a> {
    Text(&'a str),
    /// Something of this kind, such as `a list`.
    Kind(&'static str),
}

impl fmt::Display for FoundValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "`{}`", short(text)),
            Self::Kind(kind) => f.write_str(kind),
        }
    }
}

/// What is wrong with a spec.
#[derive(Debug)]
pub(super) enum SpecFinding<'a> {
    /// More findings than are listed.
    TooManyFindings {
        file: Option<&'a str>,
        most: usize,
    },
    /// More bytes than are read.
    FileTooLarge {
        bytes: usize,
        most: usize,
    },
    /// UTF-16.
    Utf16,
    /// Bytes that are no characters.
    NotUtf8,
    NulByte,
    /// Markers of a merge conflict.
    MergeConflict,
    /// A tab where spaces indent.
    Tab,
    /// More levels than are read.
    TooDeep {
        most: usize,
    },
    /// The parser found something wrong.
    NotYaml(&'a ErrorKind),
    Tag {
        /// As it is written.
        tag: &'a str,
    },
    /// An alias inside the value that it names.
    AliasInside,
    /// An alias of no anchor.
    AliasUnknown {
        name: &'a str,
    },
    /// More values than are read.
    TooManyValues {
        most: usize,
    },
    KeyNotText {
        found: FoundValue<'a>,
    },
    /// A key that occurs twice.
    FieldTwice {
        key: &'a str,
        /// The line of the first.
        first: usize,
    },
    /// A field that is not known.
    UnknownField {
        field: &'a str,
        of: &'static str,
        known: &'a [&'a str],
    },
    /// What belongs to direct credentials.
    Direct {
        /// As it is written.
        stated: &'a str,
    },
    NotMapping {
        /// What should be one.
        of: &'static str,
        found: FoundValue<'a>,
        /// The fields that it may have; none where it has fields that are not ours.
        known: &'a [&'a str],
    },
    FieldMissing {
        field: &'a str,
        of: &'static str,
    },
    /// Nothing where a text is wanted.
    Empty,
    NotText {
        found: FoundValue<'a>,
    },
    PrivateKey,
    /// A text that breaks a grammar.
    Invalid {
        error: &'a InvalidName,
        /// What may be meant.
        near: Option<&'a str>,
    },
    /// Neither `none` nor a mapping.
    NotNoneOrMap {
        found: FoundValue<'a>,
    },
    /// Neither `true` nor `false`.
    NotFlag {
        found: FoundValue<'a>,
    },
    /// No whole number within limits.
    NotNumber {
        found: FoundValue<'a>,
        range: RangeInclusive<u64>,
    },
    /// None of some values.
    NotChoice {
        text: &'a str,
        choices: &'a [&'a str],
    },
    NotList {
        found: FoundValue<'a>,
    },
    /// A kind that no spec has.
    UnknownKind {
        kind: &'a str,
        known: &'a [&'a str],
    },
    /// An API version that is not read.
    UnknownVersion {
        version: &'a str,
        kind: &'a str,
        wanted: &'static str,
    },
    /// A pair that has not two names.
    PairSize {
        /// How many it has.
        written: usize,
    },
    Duration {
        text: &'a str,
        /// What is wrong with it.
        problem: InvalidDuration,
    },
    /// No reference of an image.
    Image {
        text: &'a str,
    },
    /// Both sources of a CA.
    CaTwice,
    /// No source of a CA.
    CaNowhere,
    /// A path that leaves the checkout.
    Path {
        path: &'a str,
    },
    /// More patterns of namespaces than are read.
    TooManyPatterns {
        /// How many there are.
        written: usize,
        most: usize,
    },
    /// The private key of a cluster, which the engine has no use for any more.
    ClusterKey,
    /// A second policy in the file.
    OnePolicy,
    ImagePattern {
        text: &'a str,
        /// What is wrong with it.
        error: InvalidImagePattern,
    },
    /// A certificate that is not to be verified.
    InsecureSkipVerify,
}

impl SpecFinding<'_> {
    fn code(&self) -> Code {
        match self {
            Self::TooManyFindings { .. } => Code::TooManyFindings,
            Self::FileTooLarge { .. } | Self::TooDeep { .. } | Self::TooManyValues { .. } => Code::LimitExceeded,
            Self::Utf16 | Self::NotUtf8 | Self::NulByte => Code::WrongEncoding,
            Self::MergeConflict => Code::MergeConflict,
            Self::Tab
            | Self::NotYaml(_)
            | Self::Tag { .. }
            | Self::AliasInside
            | Self::AliasUnknown { .. }
            | Self::KeyNotText { .. }
            | Self::FieldTwice { .. } => Code::InvalidYaml,
            Self::UnknownField { .. } => Code::UnknownField,
            Self::Direct { .. } => Code::DirectCredentials,
            Self::NotMapping { .. }
            | Self::Empty
            | Self::NotText { .. }
            | Self::Invalid { .. }
            | Self::NotNoneOrMap { .. }
            | Self::NotFlag { .. }
            | Self::NotNumber { .. }
            | Self::NotChoice { .. }
            | Self::NotList { .. }
            | Self::PairSize { .. }
            | Self::TooManyPatterns { .. }
            | Self::Duration { .. }
            | Self::Image { .. }
            | Self::CaTwice
            | Self::CaNowhere
            | Self::Path { .. }
            | Self::OnePolicy
            | Self::ImagePattern { .. }
            | Self::InsecureSkipVerify => Code::InvalidValue,
            Self::FieldMissing { .. } => Code::FieldMissing,
            Self::PrivateKey => Code::SecretInFile,
            Self::UnknownKind { .. } | Self::UnknownVersion { .. } => Code::UnknownKind,
            Self::ClusterKey => Code::NotAvailable,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::TooManyFindings { file, most } => {
                let file = file.map_or_else(String::new, |file| format!(" `{file}`"));
                format!("the file{file} has more than {most} findings; the rest is left out")
            }
            Self::FileTooLarge { bytes, most } => {
                format!("expected at most {most} bytes in a spec file, found {bytes}")
            }
            Self::Utf16 => "expected UTF-8, found UTF-16".to_owned(),
            Self::NotUtf8 => "expected UTF-8, found a byte that belongs to no character".to_owned(),
            Self::NulByte => "expected text, found a NUL byte".to_owned(),
            Self::MergeConflict => "the file holds merge conflict markers".to_owned(),
            Self::Tab => "expected spaces to indent this line, found a tab".to_owned(),
            Self::TooDeep { most } => format!("the document is nested deeper than {most} levels"),
            Self::NotYaml(kind) => format!("expected YAML: {kind}"),
            Self::Tag { tag } => format!("expected a value without a tag, found `{tag}`"),
            Self::AliasInside => "the alias is inside the value it names".to_owned(),
            Self::AliasUnknown { name } => format!("the alias `*{name}` names no anchor before it"),
            Self::TooManyValues { most } => {
                format!("the document has more than {most} values once its aliases are written out")
            }
            Self::KeyNotText { found } => format!("expected a text as key, found {found}"),
            Self::FieldTwice { key, first } => format!("`{key}` is set twice, first in line {first}"),
            Self::UnknownField { field, of, .. } => format!("unknown field `{}` in {of}", field.escape_debug()),
            Self::Direct { stated } => {
                format!("`{stated}` belongs to direct credentials, which this version does not have")
            }
            Self::NotMapping { of, found, .. } => format!("expected {of} to be a mapping, found {found}"),
            Self::FieldMissing { field, of } => format!("`{field}` is missing in {of}"),
            Self::Empty => "expected a text, found nothing".to_owned(),
            Self::NotText { found } => format!("expected a text, found {found}"),
            Self::PrivateKey => "expected no secret in a spec, found a private key".to_owned(),
            Self::Invalid { error, .. } => error.to_string(),
            Self::NotNoneOrMap { found } => format!("expected `none` or a mapping, found {found}"),
            Self::NotFlag { found } => format!("expected `true` or `false`, found {found}"),
            Self::NotNumber { found, range } => {
                let (least, most) = (range.start(), range.end());
                format!("expected a whole number from {least} to {most}, found {found}")
            }
            Self::NotChoice { text, choices } => {
                let one_of = if choices.len() > 1 { "one of " } else { "" };
                format!("expected {one_of}{}, found `{}`", list(choices), short(text))
            }
            Self::NotList { found } => format!("expected a list, found {found}"),
            Self::UnknownKind { kind, .. } => format!("unknown kind `{}`", short(kind)),
            Self::UnknownVersion { version, kind, .. } => {
                format!("unknown API version `{}` of `{kind}`", short(version))
            }
            Self::PairSize { written } => format!("expected two names in a pair, found {written}"),
            Self::Duration { text, problem } => format!("expected a duration, found `{}`: {problem}", short(text)),
            Self::Image { text } => {
                format!("expected an image with registry, path, and tag or digest, found `{}`", short(text))
            }
            Self::OnePolicy => "expected one policy in the file, found a second document".to_owned(),
            Self::ImagePattern { text, error } => format!("{error}, found `{}`", short(text)),
            Self::CaTwice => "expected one of `file` and `inline` in ca, found both".to_owned(),
            Self::CaNowhere => "expected one of `file` and `inline` in ca, found neither".to_owned(),
            Self::Path { path } => format!("expected a path below the checkout, found `{}`", short(path)),
            Self::TooManyPatterns { written, most } => format!("expected at most {most} patterns, found {written}"),
            Self::ClusterKey => "`key` is not read any more: no private key of a cluster leaves it".to_owned(),
            Self::InsecureSkipVerify => {
                "`insecureSkipVerify: true` is refused: roots would be taken from any server".to_owned()
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let did = |near: &str| format!("did you mean `{near}`?");
        let hint = match self {
            Self::UnknownField { field, known, .. } => {
                return Some(match did_you_mean(field, known.iter().copied()) {
                    Some(near) => did(near),
                    None if *field == "<<" => "merge keys are not part of YAML 1.2; write the fields out".to_owned(),
                    None => format!("known are {}", list(known)),
                });
            }
            Self::NotMapping { known, .. } => {
                return (!known.is_empty()).then(|| format!("its fields are {}", list(known)));
            }
            Self::Invalid { near, .. } => return near.map(did),
            Self::NotChoice { text: "Ingress", choices } if choices.contains(&"ClusterIP") => {
                "write `ClusterIP`, and let an ingress of your own pass TLS through to both Services"
            }
            Self::NotChoice { text, choices } => return did_you_mean(text, choices.iter().copied()).map(did),
            Self::UnknownKind { kind, known } => {
                return Some(match did_you_mean(kind, known.iter().copied()) {
                    Some(near) => did(near),
                    None => format!("known are {}; keep other files outside specs/", list(known)),
                });
            }
            Self::UnknownVersion { wanted, .. } => return Some(format!("write `{wanted}`")),
            Self::FileTooLarge { .. } => "split it into several files below specs/",
            Self::Utf16 | Self::NotUtf8 => "save it as UTF-8",
            Self::MergeConflict => "settle the conflict and take the markers out",
            Self::Tab => "replace the tabs by spaces",
            Self::Tag { .. } => "specs have no tags; write the value without it",
            Self::PrivateKey => "take it out, and replace the key: whoever reads the repository has it",
            Self::NotYaml(kind) => of_yaml(kind),
            Self::FieldTwice { .. } => "take one of the two out",
            Self::Direct { .. } => LEAVE_DIRECT,
            Self::Empty => "fill it in, or leave the field out",
            Self::NotNoneOrMap { .. } => {
                "write `none`, or the networks by name as `global.meshNetworks` of Istio's values has them"
            }
            Self::NotFlag { .. } => "write `true` or `false`, without quotes",
            Self::Duration { .. } => "write for example `1h`",
            Self::Image { .. } => "for example `ghcr.io/isthmus-mesh/engine:0.1.0`",
            Self::CaTwice | Self::CaNowhere => "write `{file: east-ca.pem}` or `inline: |` and the PEM",
            Self::Path { .. } => "write it relative to the checkout, without `.` and `..`",
            Self::TooManyPatterns { .. } => "let a pattern with `*` stand for several namespaces",
            Self::ClusterKey => {
                "take it out, and delete the file: the relay of a cluster reads the peers that admit its own key alone"
            }
            Self::InsecureSkipVerify => "state the endpoint's CA in `metadata.ca`",
            Self::TooManyFindings { .. }
            | Self::NulByte
            | Self::TooDeep { .. }
            | Self::AliasInside
            | Self::AliasUnknown { .. }
            | Self::TooManyValues { .. }
            | Self::KeyNotText { .. }
            | Self::FieldMissing { .. }
            | Self::NotText { .. }
            | Self::NotNumber { .. }
            | Self::NotList { .. }
            | Self::PairSize { .. }
            | Self::OnePolicy
            | Self::ImagePattern { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// The usual cause of what the parser found.
#[allow(clippy::wildcard_enum_match_arm, reason = "the parser's own list, which may grow")]
fn of_yaml(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            "put quotes around a value that holds `: `, and check the indentation"
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::SimpleKeyExpected => "check the indentation, and that each key is followed by `: `",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => "close the quotes",
        _ => "look for an unclosed bracket or quote in the lines before, too",
    }
}

impl Explain for SpecFinding<'_> {
    fn explanation(&self) -> Explanation {
        Explanation { code: self.code(), message: self.message(), hint: self.hint() }
    }
}

/// Words in backquotes, separated by commas.
fn list(choices: &[&str]) -> String {
    choices.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A text of a file, fit for a message.
fn short(text: &str) -> String {
    quoted(text, LONGEST_QUOTED)
}
