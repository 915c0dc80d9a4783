//! The pages: every command line in them parses, every link leads somewhere, and the Chinese README is like the English one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tcpwatch::cli::command_line::{Refusal, parse};

/// Words that stand for something in the pages, and an example of it.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("COMMAND", "stat"),
    ("ENDING", "refused"),
    ("FINDING", "leak"),
    ("SHELL", "bash"),
    ("TOPIC", "close_wait"),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a page.
fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// Every page of the documentation.
fn pages() -> Vec<PathBuf> {
    let folders = ["", "docs", "docs/commands"].map(|folder| workspace().join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder").flatten());
    let pages: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    assert!(pages.len() > 20, "pages are missing: {pages:?}");
    pages
}

/// The lines of a page, and whether each stands in a code block.
fn lines(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut in_block = false;
    text.lines().map(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        (in_block || is_fence, line)
    })
}

/// The command lines of tcpwatch in a page: in code spans, and as lines of code blocks.
fn command_lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (in_block, line) in lines(text) {
        let pieces: Vec<&str> = if in_block {
            vec![line]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for piece in pieces {
            let piece = piece.trim().trim_start_matches("$ ").trim_start_matches("sudo ");
            // What follows is for the shell.
            let ends = [" | ", " > ", " \\| ", "  #"].iter().filter_map(|end| piece.find(end));
            let piece = &piece[..ends.min().unwrap_or(piece.len())];
            let is_synopsis = piece.contains('[') || piece.contains("...");
            if piece.starts_with("tcpwatch ") && !is_synopsis && !piece.contains('…') {
                found.push(piece.to_owned());
            }
        }
    }
    found
}

/// Parses a command line as tcpwatch does.
fn check(line: &str) -> Result<(), String> {
    let words = line.split_whitespace().map(|word| {
        let example = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == word);
        OsString::from(example.map_or(word, |(_, example)| example))
    });
    match parse(words) {
        Err(Refusal::Wrong(why)) => Err(why),
        Ok(_) | Err(Refusal::Help(_)) => Ok(()),
    }
}

#[test]
fn every_command_line_parses() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        for line in command_lines(&read(&page)) {
            count += 1;
            wrong.extend(
                check(&line)
                    .err()
                    .map(|why| format!("{}: `{line}`: {why}", page.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} command lines were found");
}

#[test]
fn a_wrong_command_line_is_found() {
    let text = "Type `sudo tcpwatch stat --nonsense | head`.\n\n```\n$ tcpwatch trase  # a comment\ntcpwatch stat [OPTIONS]\n```\n";
    let lines = command_lines(text);
    assert_eq!(lines, ["tcpwatch stat --nonsense", "tcpwatch trase"]);
    assert!(lines.iter().all(|line| check(line).is_err()));
}

/// Adds the options of `command` and of the commands below it, as they are typed.
fn add_options(command: &clap::Command, options: &mut BTreeSet<String>) {
    for option in command.get_arguments() {
        options.extend(option.get_long().map(|name| format!("--{name}")));
        options.extend(option.get_short().map(|letter| format!("-{letter}")));
    }
    command
        .get_subcommands()
        .for_each(|command| add_options(command, options));
}

/// The options that the code spans of a page name: `-o json`, `-L`, `--lport PORTS`.
fn options_in(text: &str) -> Vec<&str> {
    let prose = lines(text).filter(|(in_block, _)| !in_block).map(|(_, line)| line);
    let spans = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    let first_words = spans.filter_map(|span| span.split_whitespace().next());
    first_words
        .filter(|word| word.starts_with('-') && !word.trim_matches('-').is_empty())
        .collect()
}

#[test]
fn every_option_exists() {
    let mut cli = tcpwatch::cli::parser();
    cli.build();
    let mut options = BTreeSet::new();
    add_options(&cli, &mut options);
    let mut wrong = Vec::new();
    let mut count = 0;
    // The page about performance has options of the bench.
    let is_about_tcpwatch =
        |page: &PathBuf| page.components().any(|part| part.as_os_str() == "docs") && !page.ends_with("performance.md");
    for page in pages().into_iter().filter(is_about_tcpwatch) {
        for option in options_in(&read(&page)) {
            count += 1;
            if !options.contains(option) {
                wrong.push(format!("{}: {option}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} options were found");
    assert_eq!(
        options_in("`-o json`, `--nonsense`, `- ` and `a -b`"),
        ["-o", "--nonsense"]
    );
    assert!(!options.contains("--nonsense"));
}

/// The targets of the links in a page.
fn links(text: &str) -> Vec<&str> {
    let prose = lines(text).filter(|(in_block, _)| !in_block).map(|(_, line)| line);
    let after = prose.flat_map(|line| line.split("](").skip(1));
    after.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The anchors of the headings of a page, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let prose = lines(text).filter(|(in_block, _)| !in_block).map(|(_, line)| line);
    let headings = prose.filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(anchor).collect()
}

/// Why a link of `page` leads nowhere, if it does.
fn broken(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        page.to_owned()
    } else {
        page.parent()?.join(file)
    };
    let why = if !target.exists() {
        "there is no such file"
    } else if !anchor.is_empty() && !anchors(&read(&target)).iter().any(|there| there == anchor) {
        "there is no such heading"
    } else {
        return None;
    };
    Some(format!("{}: {link}: {why}", page.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let broken: Vec<String> = pages()
        .iter()
        .flat_map(|page| {
            links(&read(page))
                .into_iter()
                .filter_map(|link| broken(page, link))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_broken_link_is_found() {
    let readme = workspace().join("README.md");
    assert_eq!(links("[a](b.md) and [c](#d)\n```\n[e](f)\n```\n"), ["b.md", "#d"]);
    for (link, is_broken) in [
        ("docs/json.md", false),
        ("docs/json.md#tcpwatchstat1", false),
        ("#what-it-needs", false),
        ("https://keepachangelog.com/", false),
        ("docs/none.md", true),
        ("docs/json.md#none", true),
    ] {
        assert_eq!(broken(&readme, link).is_some(), is_broken, "{link}");
    }
}

#[test]
fn the_chinese_readme_is_like_the_english_one() {
    let [english, chinese] = ["README.md", "README.zh-CN.md"].map(|name| read(&workspace().join(name)));
    let levels = |text: &str| -> Vec<usize> {
        let prose = lines(text).filter(|(in_block, _)| !in_block).map(|(_, line)| line);
        prose
            .filter(|line| line.starts_with('#'))
            .map(|line| line.split(' ').next().unwrap_or_default().len())
            .collect()
    };
    let blocks = |text: &str| -> Vec<String> {
        let is_sample = |line: &str| line.starts_with("<!-- sample: ");
        let shown = lines(text).filter(|(in_block, line)| *in_block || is_sample(line));
        shown.map(|(_, line)| line.to_owned()).collect()
    };
    assert_eq!(levels(&english), levels(&chinese), "the headings");
    assert_eq!(blocks(&english), blocks(&chinese), "the code blocks");
    let links = |text: &str| -> Vec<String> {
        let mut links: Vec<String> = links(text).into_iter().map(str::to_owned).collect();
        links.retain(|link| !link.starts_with("README"));
        links.sort();
        links
    };
    assert_eq!(links(&english), links(&chinese), "the links");
}

#[test]
fn the_readme_is_short() {
    for name in ["README.md", "README.zh-CN.md"] {
        let lines = read(&workspace().join(name)).lines().count();
        assert!(lines <= 150, "{name} has {lines} lines");
    }
}
