//! The shape of the code: pure stages stay pure, and no test file is forgotten.

use std::path::Path;

/// Words and stages that do no IO and know no clock.
const PURE: [&str; 30] = [
    "accept.rs",
    "address.rs",
    "advance.rs",
    "argocd.rs",
    "certificate.rs",
    "diagnostic.rs",
    "diff.rs",
    "draft.rs",
    "fact.rs",
    "failure.rs",
    "gitops.rs",
    "graph.rs",
    "invite.rs",
    "json.rs",
    "key.rs",
    "lock.rs",
    "mesh.rs",
    "metadata.rs",
    "name.rs",
    "object.rs",
    "peers.rs",
    "plan.rs",
    "signer.rs",
    "spiffe.rs",
    "step.rs",
    "survey.rs",
    "text.rs",
    "token.rs",
    "tree.rs",
    "pipeline.rs",
];
/// Folders of the same kind.
const PURE_FOLDERS: [&str; 5] = ["spec", "compile", "picture", "render", "template"];

/// Tests of what is about to go.
const STILL_UNSEALED: [&str; 1] = ["direct.rs"];

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn pure_stages_know_no_world() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine");
    let mut files: Vec<(String, String)> =
        PURE.iter().map(|name| ((*name).to_owned(), std::fs::read_to_string(engine.join(name)).unwrap())).collect();
    for folder in PURE_FOLDERS {
        files.extend(sources(&engine.join(folder)));
    }
    assert!(files.len() > 30);
    for (name, text) in files {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for world in [
            "std::fs",
            "std::env",
            "std::net::Tcp",
            "tokio::",
            "async fn",
            "SystemTime::now",
            "Timestamp::now",
            "crate::cli",
            "rand::fill",
        ] {
            assert!(!code.contains(world), "{name} is pure and speaks of `{world}`");
        }
    }
}

/// A file of a target that no `mod` of the files above it names is compiled by nobody.
#[test]
fn every_test_file_is_wired_in() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (path, _) in sources(&tests) {
        let path = Path::new(&path);
        let (folder, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        if folder == tests && ["main", "bed"].contains(&name) {
            continue;
        }
        // a folder's own file is named by what is above the folder
        let (above, name) = match name {
            "mod" => (folder.parent().unwrap(), folder.file_name().unwrap().to_str().unwrap()),
            _ => (folder, name),
        };
        let own = [above.join("mod.rs"), above.with_extension("rs"), tests.join("main.rs")];
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
    let named: Vec<&str> = named.iter().map(|path| path.rsplit("/tests/").next().unwrap()).collect();
    let named: Vec<&str> = named.into_iter().filter(|path| !STILL_UNSEALED.contains(path)).collect();
    assert_eq!(named, ["support/environment.rs"]);
}

/// A pinned time holds for all of a command, so the command line asks one function for it.
#[test]
fn the_command_line_asks_one_clock() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/cli");
    for (path, text) in sources(&folder) {
        let asks = ["Timestamp::now", "Zoned::now", "SystemTime::now"].iter().any(|clock| text.contains(clock));
        assert!(!asks || path.ends_with("/clock.rs"), "{path} asks the machine for the time, not `cli::clock`");
    }
}
