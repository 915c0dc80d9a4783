//! `explain`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::ColorArgs;
use super::values::Interval;
use crate::explain::lang::Lang;
use crate::explain::lookup::{self, Asked, Unknown};
use crate::view::Output;

/// `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A state, an ending, a finding, a sysctl, as any tool writes it; or states, endings, findings, settings, questions. All of
    /// them are listed when nothing is said. States are drawn with the sockets in each; run as root, also with how often each
    /// step was taken
    #[arg(value_parser = topic)]
    pub topic: Option<Asked>,
    /// Language.
    #[arg(
        long,
        help = "Language; when nothing is said that of LC_ALL, LC_MESSAGES or LANG where it begins with zh, else en",
        value_enum,
        value_name = "LANG"
    )]
    pub lang: Option<Lang>,
    /// How long to count the steps between states, for `states` as root: 10s, 500ms, 2m
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    pub duration: Interval,
    /// Form of the output; json is one object a topic
    #[arg(short, long, default_value = "text", value_name = "FORM", value_parser = forms())]
    pub output: Output,
    /// Whether to colour it.
    #[command(flatten)]
    pub color: ColorArgs,
}

/// What `text` asks for.
fn topic(text: &str) -> Result<Asked, String> {
    lookup::find(text).map_err(|unknown| {
        let suggested = match unknown {
            Unknown::Like(names) => format!("; did you mean {}?", one_of(&names)),
            Unknown::ToldIn(names) => format!("; {} tells of it, and", one_of(&names)),
            Unknown::Nothing => ";".into(),
        };
        format!("no such topic{suggested} tcpwatch explain lists them all")
    })
}

/// `a`, `a or b`, `a, b or c`.
fn one_of(names: &[&str]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        names => names.concat(),
    }
}

/// Prose makes no table.
fn forms() -> impl TypedValueParser<Value = Output> {
    PossibleValuesParser::new(["text", "json"]).try_map(|form| Output::from_str(&form, false))
}
