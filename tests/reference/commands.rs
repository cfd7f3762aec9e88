//! Commands and their flags, from the parser of arguments itself.

use clap::{Arg, Command};
use isthmus::session::keys::ENGINE_KEY_VARIABLE;

use super::{ReferencePage, cell, code, hold, sentence};

#[test]
fn commands() {
    let mut root = isthmus::cli::command();
    root.build();
    let mut page = ReferencePage::new(
        "Commands",
        "The same as `engine COMMAND --help`. Flags that [every command has](#flags-of-every-command) are listed once.",
    );
    let mut all = Vec::new();
    collect(&root, "engine", &mut all);
    let rows = all.iter().map(|(name, command)| [format!("[`{name}`](#{})", name.replace(' ', "-")), about(command)]);
    page.table(["command", "what it does"], &rows.collect::<Vec<_>>());

    page.heading(2, "Flags of every command");
    let global: Vec<&Arg> =
        root.get_arguments().filter(|argument| argument.is_global_set() && !is_help(argument)).collect();
    arguments(&mut page, &global);

    page.heading(2, "Exit codes");
    page.table(["code", "meaning"], &exit_codes(&root));

    page.heading(2, "Environment variables");
    page.text(
        "A flag wins over its variable. Roles take their settings from variables in their Deployments; everything else is \
         best said by\nflags.",
    );
    page.table(["variable", "stands for"], &variables(&root, &all));

    for (name, command) in &all {
        page.heading(2, name);
        let long = command.get_long_about().or(command.get_about());
        page.text(
            &long
                .map(ToString::to_string)
                .unwrap_or_default()
                .split('\n')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join("\n"),
        );
        let mut command = (*command).clone();
        page.text(&format!("```text\n{}\n```", command.render_usage().to_string().trim_start_matches("Usage: ")));
        let own: Vec<&Arg> = own(&command).collect();
        if !own.is_empty() {
            arguments(&mut page, &own);
        }
    }
    hold("commands.md", &page.0);
}

/// Commands that do something, in the order of the help, by their whole names.
fn collect<'a>(command: &'a Command, name: &str, all: &mut Vec<(String, &'a Command)>) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("{name} {}", sub.get_name());
        if sub.has_subcommands() {
            collect(sub, &name, all);
        } else {
            all.push((name, sub));
        }
    }
}

fn is_help(argument: &Arg) -> bool {
    ["help", "version"].contains(&argument.get_id().as_str())
}

/// Arguments of a command itself.
fn own(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !is_help(argument) && !argument.is_hide_set())
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn arguments(page: &mut ReferencePage, arguments: &[&Arg]) {
    let rows = arguments.iter().map(|argument| [code(&spelling(argument)), values(argument), meaning(argument)]);
    page.table(["flag", "default", "meaning"], &rows.collect::<Vec<_>>());
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

/// As it is typed: `-C DIR`, `--output OUTPUT`, `PLAN`.
fn spelling(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let value = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if argument.is_positional() {
        return if argument.is_required_set() { value } else { format!("[{value}]") };
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flag = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if takes_value(argument) { format!("{flag} {value}") } else { flag }
}

fn values(argument: &Arg) -> String {
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let text = defaults.collect::<Vec<_>>().join(" ");
    if text.is_empty() || !takes_value(argument) { String::new() } else { code(&text) }
}

/// What its help says, its values and its variable.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut parts = vec![sentence(help.trim_end_matches('.'))];
    if argument.is_required_set() {
        parts.push("required".to_owned());
    }
    let possible = argument.get_possible_values();
    if takes_value(argument) && !possible.is_empty() && !argument.is_hide_possible_values_set() {
        let each = possible.iter().filter(|value| !value.is_hide_set()).map(|value| {
            let help = value.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}{help}", code(value.get_name()))
        });
        parts.push(format!("one of {}", each.collect::<Vec<_>>().join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        parts.push(format!("variable {}", code(&variable.to_string_lossy())));
    }
    cell(&parts.join("; "))
}

/// What the help says of them after everything else.
fn exit_codes(root: &Command) -> Vec<[String; 2]> {
    let text = root.get_after_help().unwrap().to_string();
    let (_, list) = text.split_once("Exit codes:\n").unwrap();
    let one = |text: &str| {
        let (number, meaning) = text.trim().split_once(' ').unwrap();
        assert!(number.parse::<u8>().is_ok(), "{text}");
        [number.to_owned(), meaning.trim().to_owned()]
    };
    list.lines().map(one).collect()
}

fn variables(root: &Command, all: &[(String, &Command)]) -> Vec<[String; 2]> {
    let mut rows = vec![[
        code(ENGINE_KEY_VARIABLE),
        "the engine's private key, PEM; instead of the file `keys/engine.key`".to_owned(),
    ]];
    let mut put = |argument: &Arg, whose: &str| {
        if let Some(variable) = argument.get_env() {
            let name = code(&variable.to_string_lossy());
            let flag = argument.get_long().map_or_else(|| spelling(argument), |long| format!("--{long}"));
            match rows.iter_mut().find(|[there, _]| *there == name) {
                Some([_, of]) => *of += &format!(", {}", code(whose)),
                None => rows.push([
                    name,
                    format!(
                        "{} of {}",
                        code(&flag),
                        if whose.is_empty() { "every command".to_owned() } else { code(whose) }
                    ),
                ]),
            }
        }
    };
    for argument in root.get_arguments() {
        put(argument, "");
    }
    for (name, command) in all {
        for argument in own(command) {
            put(argument, name);
        }
    }
    rows.sort();
    rows
}
