//! `explain` without root: every topic, in both languages.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::run::{Unprivileged, finish, tcpwatch};

/// Runs `command`, which must succeed without a word on stderr; returns its output.
fn output_of(command: &Command) -> String {
    let finished = finish(command);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    finished.stdout
}

/// The objects of the topics that `args` select.
fn pages(args: &[&str]) -> Vec<Value> {
    let args = [&["explain", "-o", "json"], args].concat();
    let lines = output_of(&tcpwatch(&args));
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn topics(pages: &[Value]) -> BTreeSet<&str> {
    pages
        .iter()
        .map(|page| page["topic"].as_str().expect("a topic"))
        .collect()
}

#[test]
fn every_topic_is_printed_in_both_languages() {
    let english = pages(&["--lang", "en"]);
    let chinese = pages(&["--lang", "zh"]);
    assert_eq!(topics(&english), topics(&chinese));
    assert_eq!(topics(&english).len(), english.len(), "a topic is there twice");
    for (lang, pages) in [("en", &english), ("zh", &chinese)] {
        for page in pages {
            assert_eq!(page["schema"], "tcpwatch.explain/1");
            assert_eq!(page["lang"], lang);
            let topic = page["topic"].as_str().expect("a topic");
            let text = output_of(&tcpwatch(&["explain", topic, "--lang", lang]));
            let about = page["about"].as_str().expect("a line");
            // Text is wrapped, and has no colon after a command that begins it.
            let squeezed = |text: &str| {
                let parts = text.strip_prefix('`').and_then(|rest| rest.split_once('`'));
                let text = parts.map_or(text.into(), |(command, about)| {
                    format!("{command}{}", about.trim_start_matches([':', '：']))
                });
                text.replace('`', "").split_whitespace().collect::<String>()
            };
            let shown = squeezed(&text);
            assert!(shown.contains(&squeezed(about)), "{topic}: {about:?} is not in {text}");
            for part in page["parts"].as_array().expect("parts") {
                for paragraph in part["text"].as_array().expect("texts") {
                    let paragraph = paragraph.as_str().expect("text");
                    let is_shown = shown.contains(&squeezed(paragraph));
                    assert!(is_shown, "{topic}: {paragraph:?} is not in {text}");
                }
            }
        }
    }
}

#[test]
fn every_state_that_snapshot_counts_is_explained() {
    let explained = pages(&[]);
    let explained = topics(&explained);
    let snapshot = output_of(&tcpwatch(&["snapshot", "-o", "json"]));
    let snapshot: Value = serde_json::from_str(&snapshot).expect("JSON");
    for state in snapshot["states"].as_object().expect("states").keys() {
        assert!(explained.contains(state.as_str()), "{state}");
    }
}

#[test]
fn a_kind_selects_the_topics_of_that_kind() {
    let mut total = 0;
    for (kind, one) in [
        ("states", "state"),
        ("endings", "ending"),
        ("findings", "finding"),
        ("settings", "setting"),
        ("questions", "question"),
    ] {
        let pages = pages(&[kind]);
        assert!(
            !pages.is_empty() && pages.iter().all(|page| page["kind"] == one),
            "{kind}"
        );
        total += pages.len();
    }
    assert_eq!(total, pages(&[]).len());
}

#[test]
fn names_of_other_tools_select_the_same_page() {
    let page = output_of(&tcpwatch(&["explain", "close_wait", "--lang", "en"]));
    for name in ["CLOSE-WAIT", "CLOSE_WAIT", "TCP_CLOSE_WAIT", "Close-Wait"] {
        assert_eq!(output_of(&tcpwatch(&["explain", name, "--lang", "en"])), page, "{name}");
    }
    let page = output_of(&tcpwatch(&["explain", "tcp_tw_reuse"]));
    assert_eq!(output_of(&tcpwatch(&["explain", "net.ipv4.tcp_tw_reuse"])), page);
}

/// Without root, only the boxes have counts, and a note names the command for more.
#[test]
fn states_are_drawn_without_root() {
    let nobody = Unprivileged::new();
    for lang in ["en", "zh"] {
        let drawn = output_of(&nobody.tcpwatch(&["explain", "states", "--lang", lang]));
        for state in ["ESTABLISHED", "TIME_WAIT", "CLOSE_WAIT", "CLOSING", "SYN_RECV"] {
            assert!(drawn.contains(&format!("│ {state} ")), "{state}: {drawn}");
        }
        assert!(drawn.contains("sudo tcpwatch explain states"), "{drawn}");
        assert!(!drawn.contains('\u{1b}'), "{drawn}");
    }
}

#[test]
fn the_language_is_that_of_the_locale() {
    for (locale, lang) in [
        (&["LC_ALL=zh_CN.UTF-8"][..], "zh"),
        (&["LC_ALL=", "LC_MESSAGES=", "LANG=zh_TW"], "zh"),
        (&["LC_ALL=C", "LANG=zh_CN.UTF-8"], "en"),
        (&["LC_ALL=", "LC_MESSAGES=en_US.UTF-8", "LANG=zh_CN.UTF-8"], "en"),
        (&["-u", "LC_ALL", "-u", "LC_MESSAGES", "-u", "LANG"], "en"),
    ] {
        let mut command = Command::new("env");
        command
            .args(locale)
            .arg(crate::run::binary())
            .args(["explain", "listen", "-o", "json"]);
        let page: Value = serde_json::from_str(&output_of(&command)).expect("JSON");
        assert_eq!(page["lang"], lang, "{locale:?}");
    }
}
