//! Texts that differ in few places: written and read back once with stand-ins, then filled in.
//!
//! A mesh of a thousand clusters has a million remote secrets, and serializing each costs more than all else.

/// Stands for a cluster's name, which no cluster has.
pub(super) const NAME: &str = "stand-in-for-a-name-xq7v3k9w2m5r8t4z";

/// A text with places.
#[derive(Debug, PartialEq)]
pub(super) struct TextTemplate {
    /// Text, and the place that follows it.
    parts: Vec<(String, Option<usize>)>,
}

impl TextTemplate {
    /// Cuts the text at its stand-ins, each of which must occur as often as is said; else the text holds one of them by
    /// itself, or wrote it in another way, and is no template.
    pub(super) fn cut(text: &str, stand_ins: &[(&str, usize)]) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut counts = vec![0; stand_ins.len()];
        loop {
            let found = stand_ins.iter().enumerate();
            let found = found.filter_map(|(place, (word, _))| rest.find(word).map(|at| (at, place, word.len())));
            let Some((at, place, length)) = found.min() else {
                break;
            };
            parts.push((rest.get(..at)?.to_owned(), Some(place)));
            rest = rest.get(at + length..)?;
            *counts.get_mut(place)? += 1;
        }
        parts.push((rest.to_owned(), None));
        let as_stated = stand_ins.iter().zip(&counts).all(|((_, wanted), count)| wanted == count);
        as_stated.then_some(Self { parts })
    }

    /// The text with these values in its places.
    pub(super) fn fill(&self, values: &[&str]) -> String {
        let value = |place: &Option<usize>| place.and_then(|place| values.get(place)).copied().unwrap_or_default();
        let length = self.parts.iter().map(|(text, place)| text.len() + value(place).len()).sum();
        let mut text_of = String::with_capacity(length);
        for (text, place) in &self.parts {
            text_of.push_str(text);
            text_of.push_str(value(place));
        }
        text_of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_values_in_its_places() {
        let template = TextTemplate::cut("a=X b=Y c=X", &[("X", 2), ("Y", 1)]).unwrap();
        assert_eq!(template.fill(&["1", "two"]), "a=1 b=two c=1");
        assert_eq!(template.fill(&["Y", "X"]), "a=Y b=X c=Y", "values are not looked into");
    }

    #[test]
    fn a_text_that_holds_a_stand_in_by_itself_is_none() {
        assert!(TextTemplate::cut("a=X b=X", &[("X", 1)]).is_none());
        assert!(TextTemplate::cut("a=1", &[("X", 1)]).is_none());
    }
}
