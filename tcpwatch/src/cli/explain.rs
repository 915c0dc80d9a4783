//! The arguments of `explain`.

use clap::Args;

use super::OutputArgs;
use super::values::Interval;
use crate::explain::lang::Lang;
use crate::explain::lookup::{self, NotFound, Selection};

/// The arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A state, an ending, a finding or a sysctl, in the spelling of any tool; or one of: states, endings, findings, settings,
    /// questions. Without a topic, explain lists all topics. `states` draws the state diagram with the number of sockets in
    /// each state; as root also with the number of transitions
    #[arg(value_parser = topic)]
    pub topic: Option<Selection>,
    /// Language.
    #[arg(
        long,
        help = "Language [default: zh if LC_ALL, LC_MESSAGES or LANG starts with zh, else en]",
        value_enum,
        value_name = "LANG"
    )]
    pub lang: Option<Lang>,
    /// How long to count transitions, for `states` as root: 10s, 500ms, 2m
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    pub duration: Interval,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Parses a topic, with suggestions in the error.
fn topic(text: &str) -> Result<Selection, String> {
    lookup::find(text).map_err(|not_found| match not_found {
        NotFound::Similar(names) => format!("no such topic; did you mean {}?", join_with_or(&names)),
        NotFound::MentionedIn(names) => {
            format!(
                "no such topic, but {} mentions it; try tcpwatch explain {}",
                join_with_or(&names),
                names[0]
            )
        }
        NotFound::Nothing => "no such topic; try tcpwatch explain, which lists all topics".into(),
    })
}

/// `a`, `a or b`, `a, b or c`.
fn join_with_or(names: &[&str]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        names => names.concat(),
    }
}
