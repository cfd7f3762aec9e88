//! The shape of the code, read from the code itself: layers, circles, purity, and that no test file is forgotten.
//!
//! Every path outside `#[cfg(test)]` counts: in `use`, inline, `super::`, in attributes and among a macro's tokens. `mod` and
//! `pub use` count as nothing, and a path is followed through re-exports to the file that defines what it names. So a
//! `mod.rs` that declares and passes on is no import; one that drives its children imports them, and they may not import it.
//! What is not seen: calls of methods, which name no file, and names that come out of another file's macro.
#![allow(clippy::print_stdout, reason = "the list of work is to be read")]

mod documentation;
mod fixtures;
mod graph;
mod layers;
mod names;
mod purity;
mod resolve;
mod source;
pub(crate) mod vocabulary;

use std::path::Path;

use resolve::Crate;

/// What is wrong with a crate, by check.
struct TidyFindings {
    circles: Vec<String>,
    layers: Vec<String>,
    purity: Vec<String>,
    stages: Vec<String>,
}

/// Checks files, given as path below the crate's folder and text.
fn check(files: Vec<(String, String)>, admitted: &[(&str, &str, &str)]) -> Result<TidyFindings, String> {
    let read = Crate::new(files)?;
    let imports = graph::imports(&read);
    Ok(TidyFindings {
        circles: graph::circles(&imports),
        layers: layers::breaches(read.paths.iter().map(String::as_str), &imports),
        purity: purity::breaches(&read, admitted),
        stages: layers::stage_calls(&imports),
    })
}

/// All sources below a folder.
fn sources(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let below = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((below, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The crate in `engine/`, or where `TIDY_ENGINE` says.
pub(crate) fn engine() -> Vec<(String, String)> {
    let folder = std::env::var_os("TIDY_ENGINE").unwrap_or_else(|| "engine".into());
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
}

#[test]
fn the_engine_keeps_its_shape() {
    let files = engine();
    let places: Vec<&str> =
        layers::LAYERS.iter().map(|(folder, ..)| *folder).chain(purity::PURE.iter().copied()).collect();
    for place in places {
        assert!(
            files.iter().any(|(path, _)| layers::is_in(path, place)),
            "tests/tidy speaks of {place}, which is nowhere"
        );
    }
    let found = check(files, purity::ADMITTED).unwrap();
    let all = [found.circles, found.layers, found.purity, found.stages].concat();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// The same as a list of work, which fails nothing: `TIDY=print cargo test --test integration tidy -- --nocapture`.
#[test]
fn the_list_of_work() {
    if std::env::var("TIDY").is_ok_and(|wish| wish == "print") {
        let found = check(engine(), purity::ADMITTED).unwrap();
        for (check, list) in
            [("circles", found.circles), ("layers", found.layers), ("purity", found.purity), ("stages", found.stages)]
        {
            println!("\n{check}: {}\n{}", list.len(), list.join("\n"));
        }
    }
}

/// The second argument of each `Result` in a text, where it has two.
fn errors_of_results(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("Result<") {
        let (mut depth, mut begin, inside) = (0_usize, None, &text[at + "Result<".len()..]);
        for (place, character) in inside.char_indices() {
            match character {
                '<' | '(' | '[' => depth += 1,
                '>' if inside[..place].ends_with('-') => {}
                '>' if depth == 0 => {
                    found.extend(begin.map(|begin: usize| inside[begin..place].trim().to_owned()));
                    break;
                }
                '>' | ')' | ']' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => begin = Some(place + 1),
                ';' | '{' if depth == 0 => break,
                _ => {}
            }
        }
    }
    found
}

/// A reason is a value of a closed enum: text can be neither compared nor told anew.
#[test]
fn no_error_is_text() {
    assert_eq!(
        errors_of_results("fn a(b: Result<Vec<(u8, u8)>, String>) -> Result<u8, fmt::Error> {"),
        ["String", "fmt::Error"]
    );
    for (path, text) in engine() {
        let errors = errors_of_results(text.split("#[cfg(test)]\nmod tests").next().unwrap());
        let texts: Vec<_> = errors
            .iter()
            .filter(|error| matches!(error.as_str(), "String" | "&'static str") || error.starts_with("Box<dyn"))
            .collect();
        assert!(texts.is_empty(), "engine/{path}: {texts:?}");
    }
}

/// A file of a target that no `mod` of the files above it names is compiled by no one.
#[test]
fn every_test_file_is_wired_in() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (path, _) in sources(&tests) {
        let path = tests.join(path);
        let (folder, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        if name == "main" || (folder == tests && name == "bed") {
            continue;
        }
        // a folder's own file is named by what is above the folder
        let (above, name) = match name {
            "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
            _ => (folder, name),
        };
        let files = ["mod.rs", "main.rs"].map(|file| above.join(file));
        let own = [&files[0], &files[1], &above.with_extension("rs"), &tests.join("main.rs")];
        let parent = own.iter().find(|parent| parent.exists()).unwrap();
        let named = format!("mod {name};");
        assert!(
            std::fs::read_to_string(parent).unwrap().contains(&named),
            "expected `{named}` in {}, for {}",
            parent.display(),
            path.display()
        );
    }
}

/// Who runs the binary by its path runs it with the environment of the machine.
#[test]
fn the_binary_is_run_in_a_sealed_environment_alone() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let word = ["CARGO_BIN_EXE", "engine"].join("_");
    let named = |(path, text): (String, String)| text.contains(&word).then_some(path);
    let named: Vec<String> = sources(&tests).into_iter().filter_map(named).collect();
    assert_eq!(named, ["support/environment.rs"]);
}

/// A pinned time holds for all of a command, so commands ask one function for it. Roles judge what others made, by the real one.
#[test]
fn commands_ask_one_clock() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    for folder in ["cli", "session", "simulation", "watch"] {
        for (path, text) in sources(&engine.join(folder)) {
            let asks = ["Timestamp::now", "Zoned::now", "SystemTime::now"].iter().any(|clock| text.contains(clock));
            let path = format!("{folder}/{path}");
            assert!(!asks || path == "session/clock.rs", "{path} asks the machine for the time, not `session::clock`");
        }
    }
}
