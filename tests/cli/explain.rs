//! `explain`: every topic, in both languages, without root.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::run::{Unprivileged, finish, tcpwatch};

/// What it writes when all is well.
fn written(command: &Command) -> String {
    let finished = finish(command);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    finished.stdout
}

/// What is said of each of the topics that `args` ask for.
fn pages(args: &[&str]) -> Vec<Value> {
    let args = [&["explain", "-o", "json"], args].concat();
    let lines = written(&tcpwatch(&args));
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
            let text = written(&tcpwatch(&["explain", topic, "--lang", lang]));
            let about = page["about"].as_str().expect("a line");
            // A command that begins a text has a line to itself.
            let all = |text: &str| {
                let led = text.strip_prefix('`').and_then(|rest| rest.split_once('`'));
                let text = led.map_or(text.into(), |(command, said)| {
                    format!("{command}{}", said.trim_start_matches([':', '：']))
                });
                text.replace('`', "").split_whitespace().collect::<String>()
            };
            assert!(all(&text).contains(&all(about)), "{topic}: {about:?} is not in {text}");
            for part in page["parts"].as_array().expect("parts") {
                for told in part["text"].as_array().expect("texts") {
                    let told = told.as_str().expect("text");
                    assert!(all(&text).contains(&all(told)), "{topic}: {told:?} is not in {text}");
                }
            }
        }
    }
}

#[test]
fn every_state_that_snapshot_counts_is_explained() {
    let explained = pages(&[]);
    let explained = topics(&explained);
    let snapshot = written(&tcpwatch(&["snapshot", "-o", "json"]));
    let snapshot: Value = serde_json::from_str(&snapshot).expect("JSON");
    for state in snapshot["states"].as_object().expect("states").keys() {
        assert!(explained.contains(state.as_str()), "{state}");
    }
}

#[test]
fn a_kind_has_the_topics_of_that_kind() {
    let mut together = 0;
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
        together += pages.len();
    }
    assert_eq!(together, pages(&[]).len());
}

#[test]
fn names_of_other_tools_find_the_same_page() {
    let page = written(&tcpwatch(&["explain", "close_wait", "--lang", "en"]));
    for name in ["CLOSE-WAIT", "CLOSE_WAIT", "TCP_CLOSE_WAIT", "Close-Wait"] {
        assert_eq!(written(&tcpwatch(&["explain", name, "--lang", "en"])), page, "{name}");
    }
    let page = written(&tcpwatch(&["explain", "tcp_tw_reuse"]));
    assert_eq!(written(&tcpwatch(&["explain", "net.ipv4.tcp_tw_reuse"])), page);
}

/// Without root the boxes have numbers, the arrows have none, and what to type is said.
#[test]
fn states_are_drawn_without_root() {
    let nobody = Unprivileged::new();
    for lang in ["en", "zh"] {
        let drawn = written(&nobody.tcpwatch(&["explain", "states", "--lang", lang]));
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
        let page: Value = serde_json::from_str(&written(&command)).expect("JSON");
        assert_eq!(page["lang"], lang, "{locale:?}");
    }
}
