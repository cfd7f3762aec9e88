//! The flags that every command has, and those of them that do nothing beside some.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use crate::report::format::Output;
use crate::types::name::ClusterName;
use crate::watch;

/// Heading of these flags in `--help`.
const GLOBAL: &str = "Global options";

/// The flags that every command has.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Checkout to work in: the folder with specs/, lock/ and rendered/.
    #[arg(short = 'C', value_name = "DIR", global = true, help_heading = GLOBAL, default_value = ".", env = "ISTHMUS_CHECKOUT")]
    pub(crate) directory: PathBuf,
    /// Output format.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Plan, write or show only what belongs to this cluster.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "NAME")]
    pub(crate) cluster: Option<ClusterName>,
    /// Print only data, warnings and errors.
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print every field of every changed object.
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) verbose: bool,
}

/// On which commands each flag has an effect. Elsewhere it is left out of the help, and refused where ignoring it would hide that a
/// run is not what was asked for.
const NOT_OF_ALL: &[NotOfAll] = &[
    NotOfAll { flag: "verbose", is_refused: true, commands: Commands::Only(&["plan", "apply", "watch"]) },
    NotOfAll {
        flag: "cluster",
        is_refused: true,
        // watch and report refuse it in a sentence of their own
        commands: Commands::Only(&[
            "plan",
            "apply",
            "watch",
            "status",
            "verify",
            "report",
            "graph",
            "argocd",
            "manifests",
        ]),
    },
    NotOfAll {
        flag: "directory",
        is_refused: false,
        commands: Commands::AllBut(&["schema", "completions", "man", "version", "demo", "conformance", "serve"]),
    },
    NotOfAll {
        flag: "output",
        // by the command, which knows its formats
        is_refused: false,
        commands: Commands::AllBut(&["schema", "completions", "man", "demo", "argocd", "manifests"]),
    },
];

/// A flag, and the commands on which it has an effect.
struct NotOfAll {
    /// Its ID.
    flag: &'static str,
    is_refused: bool,
    commands: Commands,
}

enum Commands {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

impl Commands {
    fn contain(&self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(&name),
            Self::AllBut(names) => !names.contains(&name),
        }
    }
}

/// The arguments of the program, where the help of a command has those flags alone that do something there.
pub(super) fn without_idle_flags(mut root: Command) -> Command {
    let names: Vec<String> = root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for NotOfAll { flag, commands, .. } in NOT_OF_ALL {
        let Some(hidden) = root.get_arguments().find(|argument| argument.get_id() == flag) else { continue };
        let hidden = hidden.clone().hide(true);
        for name in names.iter().filter(|name| !commands.contain(name)) {
            root = root.mut_subcommand(name, |command| command.arg(hidden.clone()));
        }
    }
    root
}

/// A flag that was given to a command on which it has no effect, by its ID, and the command.
pub(super) fn idle_flag(matches: &ArgMatches) -> Option<(&'static str, &str)> {
    let (name, inner) = matches.subcommand()?;
    let given = |flag: &str| {
        let mut matches = Some(inner);
        while let Some(inner) = matches {
            if inner.value_source(flag) == Some(ValueSource::CommandLine) {
                return true;
            }
            matches = inner.subcommand().map(|(_, next)| next);
        }
        false
    };
    let idle = NOT_OF_ALL.iter().find(|flag| flag.is_refused && !flag.commands.contain(name) && given(flag.flag))?;
    Some((idle.flag, name))
}

impl Global {
    /// As far as a watch obeys them.
    pub(super) fn watched(&self) -> watch::Flags {
        watch::Flags {
            directory: self.directory.clone(),
            output: self.output,
            narrowed: self.cluster.is_some(),
            quiet: self.quiet,
            verbose: self.verbose,
        }
    }
}

/// The commands that the lists of flags name.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NOT_OF_ALL
        .iter()
        .flat_map(|flag| match flag.commands {
            Commands::Only(names) | Commands::AllBut(names) => names,
        })
        .copied()
}
