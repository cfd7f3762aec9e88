//! Texts that cost a YAML reader most, each of the same length.

/// Name and text; `bytes` is how long each is.
#[allow(unreachable_pub, reason = "shared by a benchmark and the tests")]
pub fn worst(bytes: usize) -> Vec<(&'static str, String)> {
    let repeated = |part: &str| part.repeat(bytes / part.len());
    let levels = |part: &str| {
        let lines = (0..).map(|level| format!("{}{part}\n", " ".repeat(level)));
        let mut text = String::new();
        for line in lines {
            if text.len() + line.len() > bytes {
                return text;
            }
            text.push_str(&line);
        }
        text
    };
    let laughs = (0..).map(|at| match at {
        0 => "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(),
        at => format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 8].join(", ")),
    });
    let laughs: String = laughs.take(bytes / 50).collect();
    let lines = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<Vec<_>>().concat();
    let keys = lines(bytes / 10, &|at| format!("{at:07}: \n"));
    let anchors = lines(bytes / 14, &|at| format!("- &{at:07} *{at:03}\n"));
    vec![
        ("brackets", repeated("[")),
        ("pairs of brackets", repeated("[],").replacen("[]", "[[]", 1)),
        ("braces", repeated("{")),
        ("braces with keys", repeated("{a: ")),
        ("brackets to 60 levels", format!("[{}]", repeated(&format!("{}{},", "[".repeat(60), "]".repeat(60))))),
        ("levels of a list", repeated("- ")),
        ("levels of mappings", levels("a:")),
        ("levels of lists by indentation", levels("-")),
        ("question marks", repeated("? ")),
        ("colons", repeated(": ")),
        ("keys", keys),
        ("one key again and again", repeated("a: b\n")),
        ("keys in one line", format!("{{{}}}", repeated("a: b, "))),
        ("anchors", anchors),
        ("one anchor again and again", repeated("- &a a\n")),
        ("aliases", format!("- &a [x]\n{}", repeated("- *a\n"))),
        ("aliases of aliases", laughs),
        ("tags", repeated("- !!str a\n")),
        ("tags without end", repeated("!")),
        ("documents", repeated("---\n")),
        ("documents with a value", repeated("--- a\n")),
        ("directives", repeated("%YAML 1.2\n")),
        ("line feeds", repeated("\n")),
        ("carriage returns", repeated("\r")),
        ("spaces", repeated(" ")),
        ("tabs", repeated("\t")),
        ("comments", repeated("#\n")),
        ("a comment", repeated("#")),
        ("one word", repeated("a")),
        ("many words", repeated("a ")),
        ("words over lines", repeated("a\n")),
        ("an open quote", format!("'{}", repeated("a"))),
        ("quotes", repeated("''")),
        ("quoted lines", format!("\"{}", repeated("a\n"))),
        ("escapes", format!("\"{}\"", repeated("\\u0041"))),
        ("a block", format!("|\n{}", repeated(" a\n"))),
        ("a block of empty lines", format!("|\n{}a", repeated("\n"))),
        ("a folded block", format!(">\n{}", repeated(" a\n\n"))),
        ("blocks", repeated("- |\n")),
        ("characters of four bytes", repeated("\u{1f600}")),
        ("a long key", format!("{}: a", repeated("a"))),
        ("long keys in brackets", format!("[{}", repeated("\"a\": "))),
        ("a word that may be a key", format!("[{}", repeated("a, "))),
    ]
}
