//! `tcpwatch doctor`.

use serde_json::Value;

use super::run::{Finished, finish, tcpwatch};
use crate::support::holder::is_ours;

/// What `doctor ARGS` finds here.
pub(crate) fn doctor(args: &[&str]) -> Vec<Value> {
    findings(&finish(&tcpwatch(&[&["doctor", "-o", "json"], args].concat())))
}

/// What a `doctor -o json` found that had to end well. The processes with the fewest descriptors left are those of the whole
/// host, so those of others are left out.
pub(crate) fn findings(finished: &Finished) -> Vec<Value> {
    let lines = finished.stdout.lines();
    let lines = lines.map(|line| serde_json::from_str(line).expect("one object a line"));
    let (ours, strangers): (Vec<Value>, Vec<Value>) = lines.partition(|finding: &Value| {
        let pid = finding["owner"]["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        finding["topic"] != "nr_open" || pid.is_none_or(is_ours)
    });
    // With --strict, one of theirs may be why the code is 3.
    let is_harmless = |findings: &[Value]| findings.iter().all(|finding| finding["severity"] == "info");
    let is_theirs = finished.code == Some(3) && is_harmless(&ours) && !is_harmless(&strangers);
    assert!(finished.code == Some(0) || is_theirs, "{finished:?}");
    assert_eq!(finished.stderr, "", "{finished:?}");
    ours
}

/// Every counter that a finding cites, and its name as nstat has it.
pub(crate) fn counters(findings: &[Value]) -> Vec<(String, u64)> {
    let evidence = findings
        .iter()
        .flat_map(|finding| finding["evidence"].as_object().expect("evidence"));
    // The kernel's own names begin with a capital letter.
    let cited = evidence.filter(|(name, _)| name.starts_with(|first: char| first.is_ascii_uppercase()));
    cited
        .filter_map(|(name, value)| {
            let is_basic = ["PassiveOpens", "AttemptFails"].contains(&name.as_str());
            let group = if is_basic { "Tcp" } else { "TcpExt" };
            Some((format!("{group}{name}"), value.as_u64()?))
        })
        .collect()
}

/// Every setting that has a value here, by its sysctl name, and the value; several numbers have one space between them.
pub(crate) fn settings(findings: &[Value]) -> Vec<(String, String)> {
    let setting = |finding: &Value| {
        let (name, _) = finding["title"].as_str().expect("a title").split_once(" is ")?;
        let value = match &finding["evidence"]["value"] {
            // Not of this namespace, or of this kernel.
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some((name.to_owned(), value)).filter(|(name, _)| !name.contains(' '))
    };
    findings.iter().filter_map(setting).collect()
}
