//! The commands that are nouns: each can be listed and shown, and all say it in the same words.

use clap::{Command, CommandFactory};

/// Commands that do something, rather than name a thing.
const VERBS: [&str; 8] = ["up", "check", "schema", "config", "status", "explain", "key", "help"];
/// Things of which a node has one: shown without a name, and not listed.
const ONE_OF_A_KIND: [&str; 1] = ["ledger"];
/// Things that are named by where they are, beside or instead of by a name: what names them.
const NAMED_BY: [(&str, &[&str]); 1] = [("message", &["QUEUE", "POSITION"])];

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn verb<'a>(noun: &'a Command, name: &str) -> &'a Command {
    noun.find_subcommand(name).unwrap_or_else(|| panic!("{} has no {name}", noun.get_name()))
}

/// The names that must be given, as help shows them.
fn names(command: &Command) -> Vec<String> {
    let positionals = command.get_positionals().filter(|argument| argument.is_required_set());
    positionals
        .map(|argument| {
            let names = argument.get_value_names().unwrap_or_default();
            names.first().map_or(argument.get_id().to_string(), ToString::to_string).to_uppercase()
        })
        .collect()
}

#[test]
fn every_noun_can_be_listed_and_shown() {
    let cli = weft::cli::Cli::command();
    let nouns: Vec<&Command> =
        cli.get_subcommands().filter(|one| !VERBS.contains(&one.get_name())).collect();
    assert!(nouns.len() >= 9, "{}", nouns.len());
    for noun in nouns {
        let name = noun.get_name();
        let show = verb(noun, "show");
        if ONE_OF_A_KIND.contains(&name) {
            assert!(names(show).is_empty() && noun.find_subcommand("list").is_none(), "{name}");
            continue;
        }
        let named_by = NAMED_BY.iter().find(|(of, _)| *of == name);
        match named_by {
            Some((_, by)) => assert_eq!(names(show), *by, "{name}"),
            None => assert_eq!(names(show), [name.to_uppercase()], "{name}"),
        }
        if named_by.is_none() {
            assert!(names(verb(noun, "list")).is_empty(), "{name}");
        }
        assert!(about(verb(noun, "list")).starts_with(&format!("Every {name}")), "{name}");
        let shown = about(show);
        assert!(
            shown.starts_with(&format!("One {name}")) && shown.contains(": "),
            "{name}: {shown}"
        );
    }
}

#[test]
fn help_says_the_same_of_every_noun() {
    let cli = weft::cli::Cli::command();
    for noun in cli.get_subcommands().filter(|one| !VERBS.contains(&one.get_name())) {
        let name = noun.get_name();
        let of_it = about(noun).to_lowercase();
        let plural = [format!("{name}s: "), format!("the {name}, ")];
        assert!(plural.iter().any(|start| of_it.starts_with(start)), "{name}: {of_it}");
        for verb in noun.get_subcommands().filter(|one| one.get_name() != "help") {
            let said = about(verb);
            let place = format!("{name} {}: {said}", verb.get_name());
            assert!(said.chars().next().is_some_and(char::is_uppercase), "{place}");
            assert!(!said.ends_with('.') && !said.contains('\n'), "{place}");
            match verb.get_name() {
                "create" => assert_eq!(
                    said,
                    format!(
                        "Make a {name}; it is no error if it is there already with the same settings"
                    )
                ),
                "delete" => {
                    let article =
                        if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
                    assert!(said.starts_with(&format!("Delete {article} {name}")), "{place}");
                }
                _ => {}
            }
            for argument in verb.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && !help.ends_with('.'), "{place}: {}", argument.get_id());
            }
            // What is acted on is named after the noun, and said to be it.
            let first = verb.get_positionals().next();
            if let (Some(first), "show" | "create" | "delete") = (first, verb.get_name())
                && name != "message"
            {
                assert_eq!(first.get_help().unwrap().to_string(), format!("The {name}"), "{place}");
            }
        }
    }
}

#[test]
fn every_verb_of_the_table_is_a_command() {
    let cli = weft::cli::Cli::command();
    let mut verbs = 0;
    for operation in weft::components::Components::operations() {
        let Some((noun, of)) = operation.verb else { continue };
        let command = cli.find_subcommand(noun.name).unwrap_or_else(|| panic!("{operation:?}"));
        assert_eq!(about(command), noun.title());
        verb(command, of.word());
        verbs += 1;
    }
    assert!(verbs >= 24, "{verbs}");
}
