//! The labels of an output: the words in it that are no values, and the lines of nothing but words, which are headers.

use std::collections::BTreeSet;

use serde_json::Value;

/// The labels of `output`, which may be text, CSV or JSON.
pub(super) fn labels(output: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for line in output.lines() {
        if let Ok(object @ Value::Object(_)) = serde_json::from_str(line) {
            add_keys(&object, &mut labels);
            continue;
        }
        let (values, words): (Vec<&str>, Vec<&str>) = tokens(line).partition(|token| is_value(token));
        if values.is_empty() && !words.is_empty() {
            labels.insert(words.join(" "));
        }
        labels.extend(words.into_iter().map(str::to_owned));
    }
    labels
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

/// Whether a token is a number, a time, an address or the number of a connection, or stands for one.
fn is_value(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_digit() || "#·?+".contains(first))
}

#[cfg(test)]
mod tests {
    use super::labels;

    /// Whether two outputs have the same labels.
    fn alike(one: &str, other: &str) -> bool {
        labels(one) == labels(other)
    }

    const STAT: &str = "    time  estab fin1  reset\n14:32:08     30    4      ·\n";

    #[test]
    fn numbers_may_differ() {
        assert!(alike(
            STAT,
            "  time estab fin1 reset\n09:00:00 ? 12k 7\n09:00:01 1 1 1\n"
        ));
        assert!(alike(
            "nginx[12] 1.2ms #5 127.0.0.1:80",
            "nginx[9] 3us #a1 127.0.0.1:8080"
        ));
        assert!(alike(
            "{\"a\":1,\"b\":[{\"c\":\"x\"}]}",
            "{\"a\":2,\"b\":[{\"c\":\"y\"},{\"c\":null}]}"
        ));
        assert!(alike(
            "time,total\n2026-11-30T13:00:00Z,4\n",
            "time,total\n2026-12-01T13:00:00Z,5\n"
        ));
    }

    #[test]
    fn a_renamed_a_new_and_a_moved_column_are_found() {
        for header in [
            "time estab fin1 resets",
            "time estab fin1 reset lost",
            "time estab reset fin1",
            "time estab fin1",
        ] {
            assert!(!alike(STAT, &format!("{header}\n14:32:08 30 4 ·\n")), "{header}");
        }
        assert!(!alike("{\"a\":1,\"b\":[{\"c\":1}]}", "{\"a\":1,\"b\":[{\"d\":1}]}"));
        assert!(!alike("time,total\n", "total,time\n"));
    }

    #[test]
    fn a_label_beside_a_value_counts() {
        assert!(!alike(
            "21 sockets, oldest at least 81s",
            "21 sockets, eldest at least 81s"
        ));
        assert!(!alike("2,500 /s", "2,500 /min"));
    }
}
