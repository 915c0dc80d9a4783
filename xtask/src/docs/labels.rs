//! The labels of an output, and whether they have drifted.

use std::collections::BTreeSet;

use serde_json::Value;
use tcpwatch_common::TcpState;

/// What is no value in an output, which may be text, CSV or JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// Lines of nothing but words, and keys of JSON.
    headers: BTreeSet<String>,
    /// All other words.
    words: BTreeSet<String>,
}

impl Labels {
    /// The labels of `output`.
    pub(super) fn new(output: &str) -> Self {
        let mut labels = Self::default();
        for line in output.lines() {
            if let Ok(object @ Value::Object(_)) = serde_json::from_str(line) {
                add_keys(&object, &mut labels.headers);
                continue;
            }
            let (values, words): (Vec<&str>, Vec<&str>) = tokens(line).partition(|token| is_value(token));
            if values.is_empty() && !words.is_empty() {
                labels.headers.insert(words.join(" "));
            } else {
                labels.words.extend(words.into_iter().map(str::to_owned));
            }
        }
        labels
    }

    /// How the labels of a page differ from those that its command prints now. The headers must be the same. Other words of the page must
    /// be printed; more words may be, for a line may depend on the moment.
    pub(super) fn drift(page: &str, printed: &str) -> Option<String> {
        let [page, printed] = [page, printed].map(Self::new);
        let gone = page
            .headers
            .difference(&printed.headers)
            .chain(page.words.difference(&printed.words));
        let new = printed.headers.difference(&page.headers);
        let listed = |labels: Vec<&String>| {
            labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (gone, new) = (listed(gone.collect()), listed(new.collect()));
        match (gone.is_empty(), new.is_empty()) {
            (true, true) => None,
            (false, true) => Some(format!("it prints no more {gone}")),
            (true, false) => Some(format!("the page lacks {new}")),
            (false, false) => Some(format!("it prints no more {gone}; the page lacks {new}")),
        }
    }
}

/// Adds the keys of `value` and of all in it.
fn add_keys(value: &Value, labels: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                labels.insert(key.clone());
                add_keys(value, labels);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| add_keys(value, labels)),
        _ => {}
    }
}

/// The words and values of a line, without punctuation and pictures.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| letter.is_whitespace() || ",;()[]|".contains(letter))
        .map(|token| token.trim_matches(|letter: char| !letter.is_alphanumeric() && !"#·?+/".contains(letter)))
        .filter(|token| !token.is_empty())
}

/// Whether a token is a number, a time, an address or the number of a connection, or stands for one; or a state, which sockets may be in
/// at one moment and not at the next.
fn is_value(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_digit() || "#·?+".contains(first))
        || TcpState::ALL.iter().any(|state| state.name() == token)
}

#[cfg(test)]
mod tests {
    use super::Labels;

    const STAT: &str = "    time  estab fin1  reset\n14:32:08     30    4      ·\n";

    /// Whether the labels of `page` have drifted, where its command prints `printed`.
    fn drifted(page: &str, printed: &str) -> bool {
        Labels::drift(page, printed).is_some()
    }

    #[test]
    fn numbers_may_differ() {
        for (page, printed) in [
            (STAT, "  time estab fin1 reset\n09:00:00 ? 12k 7\n09:00:01 1 1 1\n"),
            ("nginx[12] 1.2ms #5 127.0.0.1:80", "nginx[9] 3us #a1 127.0.0.1:8080"),
            (
                "{\"a\":1,\"b\":[{\"c\":\"x\"}]}",
                "{\"a\":2,\"b\":[{\"c\":\"y\"},{\"c\":null}]}",
            ),
            (
                "time,total\n2026-11-30T13:00:00Z,4\n",
                "time,total\n2026-12-01T13:00:00Z,5\n",
            ),
            ("5 opened", "7 opened, 1 failed"),
            ("TIME_WAIT 108 ███\nFIN_WAIT1 1 ▍", "TIME_WAIT 90 ███\nCLOSE_WAIT 7 ▍"),
        ] {
            assert_eq!(Labels::drift(page, printed), None, "{page} {printed}");
        }
    }

    #[test]
    fn a_renamed_a_new_and_a_moved_column_are_found() {
        for header in [
            "time estab fin1 resets",
            "time estab fin1 reset lost",
            "time estab reset fin1",
            "time estab fin1",
        ] {
            assert!(drifted(STAT, &format!("{header}\n14:32:08 30 4 ·\n")), "{header}");
        }
        for (page, printed) in [
            ("{\"a\":1,\"b\":[{\"c\":1}]}", "{\"a\":1,\"b\":[{\"d\":1}]}"),
            ("{\"a\":1}", "{\"a\":1,\"b\":2}"),
            ("time,total\n", "total,time\n"),
        ] {
            assert!(drifted(page, printed), "{page}");
        }
    }

    #[test]
    fn a_renamed_label_beside_a_value_is_found() {
        assert!(drifted(
            "21 sockets, oldest at least 81s",
            "21 sockets, eldest at least 81s"
        ));
        assert!(drifted("2,500 /s", "2,500 /min"));
    }
}
