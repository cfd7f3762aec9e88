//! Hostile and broken spec files: each is an error in words with a place, and quick.

use std::time::{Duration, Instant};

use isthmus::diagnostic::render;
use isthmus::spec::{Source, parse};
use rstest::rstest;

/// A spec file.
pub(crate) fn source(path: &str, text: impl Into<Vec<u8>>) -> Source {
    Source { path: path.into(), bytes: text.into() }
}

/// Ten levels of ten aliases each: 10^10 values when written out.
fn yaml_bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
    }
    text
}

fn utf16(text: &str, mark: bool) -> Vec<u8> {
    let mark = mark.then_some(0xfeff);
    mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

const HEAD: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: shop}\n";

#[rstest]
#[case::utf16(utf16(HEAD, true), "specs/a.yaml:1:1", "the file is UTF-16")]
#[case::utf16_without_mark(utf16(HEAD, false), "specs/a.yaml:1:1", "the file is UTF-16")]
#[case::nul(b"kind: M\0esh\n".to_vec(), "specs/a.yaml:1:8", "NUL byte")]
#[case::no_utf8(b"kind: Mesh\nname: \xff\n".to_vec(), "specs/a.yaml:2:7", "not UTF-8")]
#[case::too_large(vec![b'#'; (1 << 20) + 1], "specs/a.yaml:1:1", "may have at most 1048576")]
#[case::tabs(format!("{HEAD}spec:\n\tmeshID: shop\n").into_bytes(), "specs/a.yaml:5:1", "a tab indents this line")]
#[case::conflict(
    format!("{HEAD}<<<<<<< HEAD\nspec: {{}}\n=======\nspec: {{a: b}}\n>>>>>>> theirs\n").into_bytes(),
    "specs/a.yaml:4:1",
    "merge conflict markers"
)]
#[case::bomb(yaml_bomb().into_bytes(), "specs/a.yaml:6", "more than 200000 values once its aliases are written out")]
#[case::self_alias(b"a: &a [*a]\n".to_vec(), "specs/a.yaml:1:8", "the alias stands inside the value it names")]
#[case::no_anchor(b"a: *b\n".to_vec(), "specs/a.yaml:1:4", "the alias `*b` names no anchor before it")]
#[case::nested_lists("[".repeat(100_000).into_bytes(), "specs/a.yaml:1:65", "nested deeper than 64 levels")]
#[case::nested_maps("{a: ".repeat(100_000).into_bytes(), "specs/a.yaml:1:", "nested deeper than 64 levels")]
#[case::nested_blocks("- ".repeat(100_000).into_bytes(), "specs/a.yaml:1:", "nested deeper than 64 levels")]
#[case::unclosed(b"a: 'b\n".to_vec(), "specs/a.yaml:1:4", "no YAML: ")]
#[case::tag(b"a: !!binary aGk=\n".to_vec(), "specs/a.yaml:1:", "specs have no tags")]
#[case::list_as_key(b"[a, b]: c\n".to_vec(), "specs/a.yaml:1:1", "a list stands as a key")]
#[case::duplicate_key(
    format!("{HEAD}spec:\n  topology: full\n  topology: pairs\n").into_bytes(),
    "specs/a.yaml:6:3",
    "`topology` stands twice, the first time in line 5"
)]
#[case::many_duplicates("a: 1\n".repeat(100_000).into_bytes(), "specs/a.yaml:2:1", "more than 100 findings")]
#[case::many_unknown(
    format!("{HEAD}spec:\n{}", (0..50_000).map(|at| format!("  topology{at}: 1\n")).collect::<String>()).into_bytes(),
    "specs/a.yaml:5:3",
    "more than 100 findings"
)]
#[case::many_broken_documents("---\na: {\n".repeat(50_000).into_bytes(), "specs/a.yaml:", "more than 100 findings")]
#[case::one_long_line(format!("{}: {{", "x".repeat(1 << 19)).into_bytes(), "specs/a.yaml:1:", "no YAML: ")]
#[case::list_document(b"[a, b]\n".to_vec(), "specs/a.yaml:1:1", "the document is a list, and a mapping is wanted")]
#[case::html(b"<html>\n<body>no</body>\n".to_vec(), "specs/a.yaml:1:1", "a single value, and a mapping")]
fn a_broken_file_is_an_error_with_a_place(#[case] bytes: Vec<u8>, #[case] place: &str, #[case] words: &str) {
    let begin = Instant::now();
    let text = match parse(&[source("specs/a.yaml", bytes)]) {
        Ok(spec) => panic!("accepted: {spec:?}"),
        Err(findings) => render(&findings),
    };
    let took = begin.elapsed();
    assert!(text.contains(place) && text.contains(words), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(text.len() < 100_000, "{}", text.len());
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_finding() {
    let text = format!("\u{feff}{HEAD}spec: {{acceptForeignRoots: true}}\n").replace('\n', "\r\n");
    let spec = parse(&[source("specs/a.yaml", text)]).unwrap();
    assert_eq!(spec.meshes[0].name.value.as_str(), "shop");
}
