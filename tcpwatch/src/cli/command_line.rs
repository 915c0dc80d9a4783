//! Parses the command line. Options may stand before or after the command.

use std::ffi::OsString;

use clap::Arg;
use strsim::damerau_levenshtein;

use super::values::Interval;
use super::{Cli, Command, parser};

/// The maximum edit distance between a mistyped word and the suggested command.
const TYPOS: usize = 2;

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Refusal {
    /// The user asked for this text, of `--help`.
    Help(clap::Error),
    /// The arguments are wrong, in one line.
    Wrong(String),
}

/// Parses and checks `args`; the first is the name of the program.
///
/// # Errors
/// They are wrong, or ask for help.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let cli = read(args)?;
    if matches!(cli.command, Some(Command::Export(_))) {
        return Err(Refusal::Wrong(
            "export is of a recording; try tcpwatch replay DIR export -w OUT".into(),
        ));
    }
    Ok(cli)
}

/// The same, for `args` of which the command may be of a recording.
pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    let args = command_first(args).map_err(Refusal::Wrong)?;
    let mut cli = Cli::read(args).map_err(|error| {
        if error.use_stderr() {
            Refusal::Wrong(one_line(&error))
        } else {
            Refusal::Help(error)
        }
    })?;
    if let Some(Command::Replay(args)) = &mut cli.command {
        args.take_options().map_err(Refusal::Wrong)?;
    }
    cli.check().map_err(Refusal::Wrong)?;
    Ok(cli)
}

/// Formats an error of the parser in one line, with its tip or with a hint at --help.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let before_usage = text.split("\nUsage:").next().unwrap_or_default();
    let lines = before_usage
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let lines: Vec<_> = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line)).collect();
    let line = lines.join(" ").replace(" tip:", "; tip:");
    if ["; try ", "; did you mean "].iter().any(|remedy| line.contains(remedy)) {
        line
    } else {
        format!("{line}; try --help")
    }
}

/// Moves the command before the options: `tcpwatch -o json trace` becomes `tcpwatch trace -o json`.
///
/// # Errors
/// One line, if the first word is neither a command nor an interval for `stat`, or if no command has the name after `help`.
fn command_first(args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let cli = parser();
    let Some((at, word)) = first_word(&cli, &args) else {
        return Ok(args);
    };
    let is_command = |word| names(&cli).any(|name| name == word);
    if is_command(word) {
        let topic = args.get(at + 1).and_then(|topic| topic.to_str());
        if let Some(topic) = topic.filter(|topic| word == "help" && !topic.starts_with('-') && !is_command(topic)) {
            return Err(no_such_command(&cli, topic));
        }
        args[1..=at].rotate_right(1);
    } else if word.parse::<Interval>().is_err() {
        return Err(no_such_command(&cli, word));
    }
    Ok(args)
}

/// The names of all commands.
fn names(cli: &clap::Command) -> impl Iterator<Item = &str> {
    cli.get_subcommands().map(clap::Command::get_name).chain(["help"])
}

/// The first of `args` that is neither an option nor the value of an option, and its index.
fn first_word<'a>(cli: &clap::Command, args: &'a [OsString]) -> Option<(usize, &'a str)> {
    let mut rest = (1..).zip(args.iter().skip(1));
    while let Some((at, arg)) = rest.next() {
        let arg = arg.to_str()?;
        if arg == "--" {
            return None;
        }
        let value_follows = match (arg.strip_prefix("--"), arg.strip_prefix('-')) {
            (Some(name), _) => takes_value(cli, |option| option.get_long() == Some(name)),
            // Short options may be combined (`-4o json`), and a value may follow without a space (`-ojson`).
            (None, Some(letters)) if !letters.is_empty() => {
                let is = |letter| takes_value(cli, |option| option.get_short() == Some(letter));
                letters.find(is).is_some_and(|at| letters[at..].chars().count() == 1)
            }
            _ => return Some((at, arg)),
        };
        if value_follows {
            rest.next();
        }
    }
    None
}

/// Whether an option that `is_it` selects, of any command, takes a value.
fn takes_value(cli: &clap::Command, is_it: impl Fn(&Arg) -> bool) -> bool {
    let mut options = cli
        .get_subcommands()
        .chain([cli])
        .flat_map(clap::Command::get_arguments);
    options.any(|option| is_it(option) && option.get_action().takes_values())
}

/// Checks that there is a command `word`.
pub(super) fn ensure_command(word: &str) -> Result<(), String> {
    let cli = parser();
    if names(&cli).any(|name| name == word) {
        Ok(())
    } else {
        Err(no_such_command(&cli, word))
    }
}

fn no_such_command(cli: &clap::Command, word: &str) -> String {
    let near = names(cli).map(|name| (damerau_levenshtein(name, word), name)).min();
    match near {
        Some((typos, name)) if typos <= TYPOS => format!("{word}: no such command; did you mean {name}?"),
        _ => format!("{word}: no such command; try tcpwatch --help"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(line: &str) -> Result<String, String> {
        let args = line.split(' ').map(OsString::from);
        let words = command_first(args)?;
        let words: Vec<String> = words.into_iter().map(|word| word.into_string().unwrap()).collect();
        Ok(words.join(" "))
    }

    #[test]
    fn the_command_comes_first() {
        for (typed, ordered_as) in [
            ("t", "t"),
            ("t stat 5", "t stat 5"),
            ("t 5 -4", "t 5 -4"),
            ("t -o json trace -4", "t trace -o json -4"),
            ("t -ojson -4 trace", "t trace -ojson -4"),
            ("t -4ojson trace", "t trace -4ojson"),
            ("t -4o json trace", "t trace -4o json"),
            (
                "t --output=json --color never trace",
                "t trace --output=json --color never",
            ),
            ("t --comm stat trace", "t trace --comm stat"),
            ("t -4 500ms", "t -4 500ms"),
            ("t -o json", "t -o json"),
            ("t -- trace", "t -- trace"),
            ("t explain stats", "t explain stats"),
            ("t help stat", "t help stat"),
            ("t help", "t help"),
            ("t --version", "t --version"),
        ] {
            assert_eq!(ordered(typed).as_deref(), Ok(ordered_as));
        }
    }

    #[test]
    fn a_word_that_is_no_command_is_refused_with_the_nearest() {
        for (typed, nearest) in [
            ("t stats", "did you mean stat?"),
            ("t -o json tarce", "did you mean trace?"),
            ("t nonsense", "try tcpwatch --help"),
            ("t help stats", "did you mean stat?"),
            ("t help nonsense", "try tcpwatch --help"),
        ] {
            assert!(ordered(typed).unwrap_err().ends_with(nearest), "{typed}");
        }
    }

    #[test]
    fn help_shows_owner_options_where_they_are_supported() {
        let cli = parser();
        for command in cli.get_subcommands() {
            let is_hidden = |option: &Arg| option.is_hide_set();
            let pid = command.get_arguments().find(|option| option.get_id() == "pid");
            let shows = pid.is_some_and(|option| !is_hidden(option));
            let supported = ["trace", "life", "churn", "latency", "snapshot", "leaks"].contains(&command.get_name());
            assert_eq!(shows, supported, "{}", command.get_name());
        }
    }

    #[test]
    fn each_command_says_what_its_states_mean() {
        for mut command in parser().get_subcommands().cloned() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            let selects = ["stat", "trace", "life", "latency", "leaks", "snapshot"].contains(&name.as_str());
            assert_eq!(help.contains("--state <STATES>"), selects, "{name}");
            assert_eq!(
                help.contains(&format!("TCP states, separated by commas: {name} ")),
                selects,
                "{name}"
            );
            let prints_tables = selects || ["churn", "export"].contains(&name.as_str());
            assert_eq!(help.contains("csv"), prints_tables, "{name}");
        }
    }

    /// Otherwise the position of the command would depend on the command itself.
    #[test]
    fn an_option_takes_a_value_in_all_commands_or_in_none() {
        let cli = parser();
        let options = || {
            cli.get_subcommands()
                .chain([&cli])
                .flat_map(clap::Command::get_arguments)
        };
        for option in options().filter(|option| !option.is_positional()) {
            for same in options() {
                let is_same = |a: Option<String>, b: Option<String>| a.is_some() && a == b;
                let long = |option: &Arg| option.get_long().map(str::to_owned);
                let short = |option: &Arg| option.get_short().map(String::from);
                if is_same(long(option), long(same)) || is_same(short(option), short(same)) {
                    assert_eq!(
                        option.get_action().takes_values(),
                        same.get_action().takes_values(),
                        "{option:?}"
                    );
                }
            }
        }
    }
}
