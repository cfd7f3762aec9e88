//! Examples at the end of each command's help.

use clap::Command;

/// What is typed, and what it is for.
type Example = (&'static str, &'static str);

/// Examples by the whole name of their command.
const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "plan",
        &[
            ("engine plan", "what `engine apply` would write now"),
            ("engine plan --base origin/main", "what merging this branch would change; no key, no cluster"),
            ("engine plan --out p && engine apply p", "carry out exactly what was reviewed"),
        ],
    ),
    (
        "apply",
        &[
            ("engine apply --create-keys", "the first run of a checkout"),
            ("engine apply --wait 10m", "run again until what was synced has opened the links"),
            ("engine apply --accept-trust west@cb4080f111b6", "after comparing the fingerprint with the cluster"),
        ],
    ),
    (
        "watch",
        &[
            ("engine watch --commit --push --http 0.0.0.0:8080", "in a pod: commits to the branch that is checked out"),
            ("engine watch --commit --push --branch isthmus", "commits to another branch, for a pull request"),
            ("engine watch --once --wait 10m", "one run, as a job"),
        ],
    ),
    (
        "status",
        &[
            ("engine status", "one row for each link"),
            ("engine status --cluster east", "the links that east reads by"),
            ("engine status --output json", "for an alert, for example on `rootExpires`"),
        ],
    ),
    (
        "verify",
        &[
            ("engine verify", "in CI, before a merge: exit code 4 when a link lacks something"),
            ("engine verify --cluster east", "only what east reads"),
        ],
    ),
    (
        "report",
        &[
            ("engine report --html mesh.html", "what lock and files say"),
            ("engine report --fetch --html mesh.html", "with what the clusters publish now"),
        ],
    ),
    (
        "graph",
        &[
            ("engine graph | dot -Tsvg > graph.svg", "a drawing, by Graphviz"),
            ("engine graph --cluster east --format mermaid", "the steps of one cluster, for a page in Markdown"),
        ],
    ),
    ("keys new", &[("engine keys new", "once for a checkout; `engine apply --create-keys` does the same")]),
    ("keys list", &[("engine keys list", "also tells where the private half of each is looked for")]),
    (
        "init",
        &[
            ("engine init", "all contexts of the kubeconfig"),
            ("engine init --context east --context west", "these two"),
            ("engine init --from argocd --context hub", "the clusters that Argo CD in this one knows"),
        ],
    ),
    (
        "invite",
        &[
            ("engine invite east", "for a team that has a checkout of its own"),
            ("engine invite east --for deckhouse", "for a team that uses Deckhouse"),
        ],
    ),
    ("export", &[("engine export east --out east.bundle", "where the cluster is reached")]),
    (
        "import",
        &[
            (
                "engine import east.bundle --signer sha256:…",
                "the first bundle of a cluster, with the fingerprint of who made it",
            ),
            ("engine import east.bundle", "each later one"),
        ],
    ),
    (
        "argocd generate",
        &[("engine argocd generate --cluster east", "what the plugin gives Argo CD for the Application of east")],
    ),
    ("argocd parameters", &[("engine argocd parameters", "what the plugin gives Argo CD for its form")]),
    (
        "manifests argocd",
        &[
            ("engine manifests argocd --image IMAGE", "the plugin's configuration and sidecar"),
            ("engine manifests argocd --repo URL", "one `ApplicationSet` for all clusters"),
        ],
    ),
    (
        "manifests flux",
        &[
            ("engine manifests flux --repo URL", "for one Flux that reaches all clusters"),
            ("engine manifests flux --repo URL --cluster east", "for the Flux in east"),
        ],
    ),
    ("manifests agent", &[("engine manifests agent --cluster east", "for `kubectl apply --server-side --filename -`")]),
    ("manifests helm", &[("engine manifests helm --directory isthmus", "for `helm install isthmus ./isthmus`")]),
    (
        "conformance exporter",
        &[
            ("engine conformance exporter https://istio-metadata.east.example.com/metadata", "what everyone may read"),
            (
                "engine conformance exporter https://istio-metadata.east.example.com/metadata --key west.key --as UUID --junit report.xml",
                "all rules, as a cluster that it admits",
            ),
        ],
    ),
    (
        "conformance proxy",
        &[("engine conformance proxy https://api.east.example.com --of UUID --key west.key --as UUID", "all rules")],
    ),
    ("policy test", &[("engine policy test", "in CI, beside `engine plan --base`")]),
    (
        "schema",
        &[
            ("engine schema > specs.schema.json", "for an editor"),
            ("engine schema plan", "of `engine plan --output json`"),
        ],
    ),
    ("completions", &[("engine completions bash > /etc/bash_completion.d/engine", "for all users of this machine")]),
    ("man", &[("engine man > engine.1 && man ./engine.1", "reads it")]),
    (
        "version",
        &[
            ("engine version", "which commit this is, and which lock it reads"),
            ("engine version --output json", "for a script"),
        ],
    ),
    ("serve agent", &[("engine serve agent", "in a pod, as rendered")]),
    (
        "serve exporter",
        &[(
            "engine serve exporter --cluster-uuid UUID",
            "in a pod; rendered/ has the Deployment with all that it needs",
        )],
    ),
    ("serve proxy", &[("engine serve proxy", "in a pod, as rendered")]),
    ("serve relay", &[("engine serve relay", "in a pod, as rendered")]),
    (
        "demo",
        &[
            ("engine demo", "two seconds, and nothing stays"),
            ("engine demo --keep demo", "leaves the checkout in demo/, to look at"),
        ],
    ),
];

/// The arguments of the program, with an example or more at the end of each command's long help.
pub(super) fn with_examples(mut root: Command) -> Command {
    for (name, examples) in EXAMPLES {
        let width = examples.iter().map(|(typed, _)| typed.len()).max().unwrap_or_default();
        let line = |(typed, what): &Example| format!("  {typed:width$}    {what}");
        let text = examples.iter().map(line).collect::<Vec<_>>().join("\n");
        root = on(root, name, &|command| command.after_long_help(format!("Examples:\n{text}")));
    }
    root
}

/// Changes the command of this name.
fn on(parent: Command, name: &str, change: &dyn Fn(Command) -> Command) -> Command {
    match name.split_once(' ') {
        Some((first, rest)) => parent.mut_subcommand(first, |inner| on(inner, rest, change)),
        None => parent.mut_subcommand(name, change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the commands that do something.
    fn leaves(command: &Command, name: &str, all: &mut Vec<String>) {
        if !command.has_subcommands() {
            all.push(name.to_owned());
        }
        for inner in command.get_subcommands() {
            leaves(inner, format!("{name} {}", inner.get_name()).trim(), all);
        }
    }

    #[test]
    fn each_command_has_an_example_that_it_takes() {
        let mut known = Vec::new();
        leaves(&crate::cli::command(), "", &mut known);
        let mut named: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        named.sort_unstable();
        known.sort();
        assert_eq!(named, known);
        for (name, examples) in EXAMPLES {
            for (typed, _) in *examples {
                let whole = typed.split(" > ").next().unwrap().split(" | ").next().unwrap();
                for part in whole.split(" && ").filter(|part| part.starts_with("engine ")) {
                    let values =
                        [("IMAGE", "r.example.com/engine:1"), ("UUID", "63937013-975d-46dc-8477-1a732f790796")];
                    let arguments = part
                        .split(' ')
                        .map(|word| values.iter().find(|(own, _)| *own == word).map_or(word, |(_, value)| value));
                    let parsed = crate::cli::parse(arguments.map(std::ffi::OsString::from));
                    assert!(parsed.is_ok(), "{name}: {typed}: {parsed:?}");
                }
            }
        }
    }
}
