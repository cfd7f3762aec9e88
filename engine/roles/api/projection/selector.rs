//! What a selector may name. Whoever may select by a field learns its value by asking often enough, so a selector names what
//! is shown, and nothing else.

use super::shape::{Shape, ShownField, shape_of};

/// Whether all fields of a field selector are shown.
pub(super) fn fields_are_shown(selector: &str, fields: &'static [ShownField]) -> bool {
    selector.split(',').all(|part| {
        let path = part.split(['=', '!']).next().unwrap_or_default();
        let found = path.split('.').try_fold(Shape::Object(fields), |shape, name| {
            if let Shape::Object(fields) = shape { shape_of(fields, name) } else { None }
        });
        matches!(found, Some(Shape::Value | Shape::OneOf(_) | Shape::SharedNamespace))
    })
}

/// Whether all labels of a label selector are shown.
pub(super) fn labels_are_shown(selector: &str, fields: &'static [ShownField]) -> bool {
    let metadata = shape_of(fields, "metadata");
    let labels = match metadata {
        Some(Shape::Object(fields)) => shape_of(fields, "labels"),
        _ => None,
    };
    requirements(selector).all(|requirement| {
        let key = requirement.trim().trim_start_matches('!').trim_start();
        let key = key.split(|c: char| c.is_whitespace() || "=!<>(".contains(c)).next().unwrap_or_default();
        match labels {
            _ if key.is_empty() => false,
            Some(Shape::Entries { but }) => !but.contains(&key),
            Some(Shape::EntriesOf(shown)) => shown.contains(&key),
            _ => false,
        }
    })
}

/// The parts of a label selector between commas; those in brackets are of one part.
fn requirements(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    selector.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::super::fields::KINDS;
    use super::*;

    fn of(resource: &str) -> &'static [ShownField] {
        KINDS.iter().find(|kind| kind.resource == resource).unwrap().fields
    }

    #[test]
    fn a_selector_names_what_is_shown() {
        for (selector, shown) in [
            ("status.phase!=Failed", true),
            ("metadata.name=a,spec.nodeName==b", true),
            ("spec.schedulerName=a", false),
            ("status.phase!=Failed,spec.hostNetwork=true", false),
            ("metadata.annotations=a", false),
            ("metadata", false),
            ("", false),
        ] {
            assert_eq!(fields_are_shown(selector, of("pods")), shown, "{selector}");
        }
        for (selector, of_pods, of_nodes) in [
            ("app=a", true, false),
            ("app in (a, b),!version", true, false),
            ("topology.istio.io/network=a", false, false),
            ("app,! topology.istio.io/network", false, false),
            ("app notin (a),topology.istio.io/network in (b)", false, false),
            ("topology.kubernetes.io/zone", true, true),
            ("topology.kubernetes.io/zone in (a,app),app>1", true, false),
            ("app,", false, false),
        ] {
            assert_eq!(labels_are_shown(selector, of("pods")), of_pods, "{selector}");
            assert_eq!(labels_are_shown(selector, of("nodes")), of_nodes, "{selector}");
        }
    }
}
