//! The text of a template with the values of a cluster.
//!
//! A template has values, `{{ name|tojson }}`, which are written as JSON in one line, and lines that stand only where a value is
//! `true`, between `{% if name %}` and `{% endif %}`, each in a line of its own. That is all: it can neither compute nor loop, so it
//! takes time in proportion to its length, and each line of what it gives comes from one line of the template.
#![deny(clippy::wildcard_enum_match_arm)]

use serde_json::{Map, Value};

use crate::types::text::{LONGEST_QUOTED, quoted};

/// Most bytes that a template may give.
pub(super) const MAX_RENDERED: usize = 256 << 10;

/// What a template gives.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RenderedTemplate {
    pub(super) text: String,
    /// For each line of the text the line of the template that it comes from, from 1.
    pub(super) lines: Vec<usize>,
}

/// What is wrong with the text of a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TextFault {
    #[error("expected the name of a value, found `{}`", quoted(.name, LONGEST_QUOTED))]
    UnknownValue { name: String },
    /// Braces with something else in them.
    #[error("expected `{{{{ name|tojson }}}}`, found `{}`", quoted(.found, LONGEST_QUOTED))]
    NotValue { found: String },
    /// A line of a condition that is none.
    #[error(
        "expected `{{% if name %}}` or `{{% endif %}}` in a line of its own, found `{}`",
        quoted(.found, LONGEST_QUOTED)
    )]
    NotCondition { found: String },
    /// An end without its beginning, or a beginning without its end.
    #[error("each `{{% if name %}}` has one `{{% endif %}}` after it")]
    Unpaired,
    /// It gives too much.
    #[error("it gives more than {MAX_RENDERED} bytes")]
    TooLong,
}

/// Fills in the values; a fault comes with its line.
pub(super) fn fill(template: &str, values: &Map<String, Value>) -> Result<RenderedTemplate, (usize, TextFault)> {
    let mut rendered = RenderedTemplate::default();
    // the conditions that are open: their lines, and whether all of them hold
    let mut open: Vec<(usize, bool)> = Vec::new();
    for (line, number) in template.lines().zip(1..) {
        let at = |fault| (number, fault);
        let is_kept = open.last().is_none_or(|(_, holds)| *holds);
        if let Some(condition) = condition(line).map_err(at)? {
            match condition {
                ConditionLine::If(name) => open.push((number, is_true(value(values, name).map_err(at)?) && is_kept)),
                ConditionLine::End => drop(open.pop().ok_or((number, TextFault::Unpaired))?),
            }
            continue;
        }
        // also what does not stand has to be right
        let line = fill_line(line, values).map_err(at)?;
        if is_kept {
            rendered.text.push_str(&line);
            rendered.text.push('\n');
            rendered.lines.push(number);
            if rendered.text.len() > MAX_RENDERED {
                return Err(at(TextFault::TooLong));
            }
        }
    }
    match open.pop() {
        Some((line, _)) => Err((line, TextFault::Unpaired)),
        None => Ok(rendered),
    }
}

/// What a line of a condition says.
enum ConditionLine<'t> {
    /// It begins, with the name of its value.
    If(&'t str),
    End,
}

/// The condition in a line; `None` for any other line.
fn condition(line: &str) -> Result<Option<ConditionLine<'_>>, TextFault> {
    if !line.contains("{%") {
        return Ok(None);
    }
    let wrong = || TextFault::NotCondition { found: line.trim().to_owned() };
    let inside = line.trim().strip_prefix("{%").and_then(|line| line.strip_suffix("%}")).ok_or_else(wrong)?;
    let mut parts = inside.split_whitespace();
    match (parts.next(), parts.next(), parts.next()) {
        (Some("if"), Some(name), None) => Ok(Some(ConditionLine::If(name))),
        (Some("endif"), None, None) => Ok(Some(ConditionLine::End)),
        _ => Err(wrong()),
    }
}

fn fill_line(line: &str, values: &Map<String, Value>) -> Result<String, TextFault> {
    let mut rendered = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let wrong = || TextFault::NotValue { found: format!("{{{{{after}") };
        let (inside, after) = after.split_once("}}").ok_or_else(wrong)?;
        let (name, filter) = inside.split_once('|').ok_or_else(wrong)?;
        if filter.trim() != "tojson" {
            return Err(wrong());
        }
        rendered.push_str(before);
        rendered.push_str(&value(values, name.trim())?.to_string());
        if rendered.len() > MAX_RENDERED {
            return Err(TextFault::TooLong);
        }
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

fn value<'v>(values: &'v Map<String, Value>, name: &str) -> Result<&'v Value, TextFault> {
    values.get(name).ok_or_else(|| TextFault::UnknownValue { name: name.to_owned() })
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> Result<(String, Vec<usize>), (usize, TextFault)> {
        let values = json!({ "name": "a\n\"b\": {{ x }}", "list": [1, {"a": "b"}], "yes": true, "no": false });
        fill(template, values.as_object().unwrap()).map(|rendered| (rendered.text, rendered.lines))
    }

    #[test]
    fn values_are_json_in_one_line_and_conditions_take_lines_out() {
        let text = "a: {{ name|tojson }}\n{% if yes %}\nb: {{list | tojson}} # {{ yes|tojson }}\n{% if no %}\nc: 1\n{% endif %}\n  {% endif %}\nd: 2";
        let wanted = "a: \"a\\n\\\"b\\\": {{ x }}\"\nb: [1,{\"a\":\"b\"}] # true\nd: 2\n";
        assert_eq!(rendered(text), Ok((wanted.to_owned(), vec![1, 3, 8])));
    }

    #[test]
    fn whatever_else_is_in_braces_is_wrong() {
        let not_value = |found: &str| TextFault::NotValue { found: found.to_owned() };
        let not_condition = |found: &str| TextFault::NotCondition { found: found.to_owned() };
        for (text, line, fault) in [
            ("\n{{ nothing|tojson }}", 2, TextFault::UnknownValue { name: "nothing".to_owned() }),
            ("{{ name }}", 1, not_value("{{ name }}")),
            ("{{ name|tojson", 1, not_value("{{ name|tojson")),
            ("{{ name|tojson|upper }}", 1, not_value("{{ name|tojson|upper }}")),
            ("{{ name ~ name|tojson }}", 1, TextFault::UnknownValue { name: "name ~ name".to_owned() }),
            ("{% for x in list %}", 1, not_condition("{% for x in list %}")),
            ("a: 1 {% if yes %}", 1, not_condition("a: 1 {% if yes %}")),
            ("{% if yes and no %}", 1, not_condition("{% if yes and no %}")),
            ("a\n{% if yes %}\nb", 2, TextFault::Unpaired),
            ("a\n{% endif %}", 2, TextFault::Unpaired),
            (
                "{% if no %}\n{{ nothing|tojson }}\n{% endif %}",
                2,
                TextFault::UnknownValue { name: "nothing".to_owned() },
            ),
            (&"{{ name|tojson }}\n".repeat(20_000), 13_108, TextFault::TooLong),
        ] {
            assert_eq!(rendered(text), Err((line, fault)), "{text:.60}");
        }
    }
}
