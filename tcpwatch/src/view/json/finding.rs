//! Findings for programs: `tcpwatch.finding/1`, one object each.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::line;
use crate::detect::finding::{Finding, Severity, Value};
use crate::explain::kind::Kind;
use crate::explain::topic::Topic;
use crate::input::owner::Owner;
use crate::view::time::rfc3339;

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: String,
    detector: Kind,
    topic: Topic,
    severity: Severity,
    title: &'a str,
    #[serde(serialize_with = "by_name")]
    evidence: &'a [(&'static str, Value)],
    advice: &'a [String],
    owner: Option<Owner>,
}

/// `{"opened":4870,…}`, in the order they are told.
fn by_name<S: Serializer>(evidence: &[(&'static str, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(evidence.iter().map(|(name, value)| (name, value)))
}

/// One line: `finding`, as it was at `time`.
///
/// # Errors
/// The output takes no more.
pub fn write(finding: &Finding, time: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let line = Line {
        schema: "tcpwatch.finding/1",
        time: rfc3339(time),
        detector: finding.kind,
        topic: finding.topic,
        severity: finding.severity,
        title: &finding.title,
        evidence: &finding.evidence,
        advice: &finding.advice,
        owner: finding.owner,
    };
    line::write(out, &line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::finding::tests::{bare, finding};

    fn shown(finding: &Finding) -> String {
        let mut out = Vec::new();
        write(finding, Timestamp::UNIX_EPOCH, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_finding_is_an_object() {
        assert_eq!(
            shown(&finding()),
            concat!(
                r#"{"schema":"tcpwatch.finding/1","time":"1970-01-01T00:00:00.000000000Z","detector":"churn","#,
                r#""topic":"churn","severity":"warning","title":"a\\u{1b}[7] opened 4,870 connections","#,
                r#""evidence":{"opened":4870,"opened_per_s":487.0,"remote":"10.0.0.9","ends":null},"#,
                r#""advice":["use a pool","or keep-alive"],"owner":{"pid":7,"comm":"a\u001b","how":"connect"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_nobodys_and_without_advice_has_empty_places() {
        let line = shown(&bare());
        let rest = r#""topic":"tcp_tw_recycle","severity":"info","title":"x","evidence":{},"advice":[],"owner":null}"#;
        assert!(line.ends_with(&format!("{rest}\n")), "{line}");
    }
}
