//! Reason codes, by subject.

use isthmus::types::explanation::Code;

use super::{ReferencePage, code, hold, link};

#[test]
fn codes() {
    let mut page = ReferencePage::new(
        "Reason codes",
        "Whatever the program reports in JSON, a step that waits, a finding in a file, a command that failed, has three fields: \
         `code`,\n`message` and `hint`. Compare the code: a spelling that was once released does not change, while messages get \
         better. The\nsame codes are the `enum` in the [schema of a plan](plan.md).",
    );
    let subjects: Vec<_> = Code::BY_SUBJECT.iter().map(|(subject, _)| format!("* {}", link(subject))).collect();
    page.text(&subjects.join("\n"));
    for (subject, codes) in Code::BY_SUBJECT {
        page.heading(2, subject);
        let rows: Vec<_> = codes.iter().map(|one| [code(one.as_str()), one.meaning().to_owned()]).collect();
        page.table(["code", "meaning"], &rows);
    }
    let listed: usize = Code::BY_SUBJECT.iter().map(|(_, codes)| codes.len()).sum();
    assert_eq!(listed, Code::ALL.len());
    hold("codes.md", &page.0);
}
