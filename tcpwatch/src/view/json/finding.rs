//! Findings as JSON: `tcpwatch.finding/1`, one object per finding.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::line;
use crate::detect::finding::{Finding, Severity, Value};
use crate::explain::kind::FindingKind;
use crate::explain::topic::Topic;
use crate::input::owner::Owner;
use crate::view::timestamp::rfc3339;

#[derive(Serialize)]
struct FindingObject<'a> {
    schema: &'static str,
    time: String,
    detector: FindingKind,
    topic: Topic,
    severity: Severity,
    title: &'a str,
    #[serde(serialize_with = "evidence")]
    evidence: &'a [(&'static str, Value)],
    advice: &'a [String],
    owner: Option<Owner>,
}

/// Serializes the evidence by name, in the order of the detector: `{"opened":4870,…}`.
fn evidence<S: Serializer>(evidence: &[(&'static str, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(evidence.iter().map(|(name, value)| (name, value)))
}

/// Writes `finding`, as it was at `time`, as one line.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(finding: &Finding, time: Timestamp, out: &mut dyn Write) -> io::Result<()> {
    let object = FindingObject {
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
    line::write(out, &object)
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
    fn a_finding_without_owner_and_advice_has_null_and_an_empty_list() {
        let line = shown(&bare());
        let rest = r#""topic":"tcp_tw_recycle","severity":"info","title":"x","evidence":{},"advice":[],"owner":null}"#;
        assert!(line.ends_with(&format!("{rest}\n")), "{line}");
    }
}
