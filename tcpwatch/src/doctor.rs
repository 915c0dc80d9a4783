//! Judges the settings and counters of a host: a verdict on every setting, and the trouble that the counters show.
//!
//! Nothing is recommended without evidence from this host. Counters show how much happened since boot, or since the
//! namespace began, and never when.

mod backlog;
mod conntrack;
mod descriptors;
mod files;
mod format;
mod judgement;
mod negligible;
mod orphans;
mod port_usage;
mod ports;
mod retries;
mod suggested_range;
mod syn;
mod time_wait;

use judgement::Judgement;

use crate::detect::finding::{Finding, Severity, Value};
use crate::explain::kind::FindingKind;
use crate::explain::topic::Topic;
use crate::input::host::{HostFrame, Place};
use crate::input::ports::range::PortRange;
use crate::input::setting::Setting;
use crate::input::setting_defaults::SettingFacts;

/// Whether a person should look at a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is in order.
    Fine,
    /// What it is could not be read.
    Unknown,
    /// It is worth a look, or wrong.
    Notable,
}

/// A setting and the verdict on it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which.
    pub setting: Setting,
    /// Its value, escaped; `None` where it is unknown.
    pub value: Option<String>,
    /// What it is where nobody sets it: ` (default 60)`.
    pub beside: String,
    /// The line of a file that sets it at boot.
    pub place: Option<Place>,
    /// Whether a person should look at it.
    pub standing: Standing,
    /// What the host shows of it, and whether changing it would help here; empty where there is nothing to add.
    pub words: String,
    /// The same as a finding.
    pub finding: Finding,
}

/// The verdicts on a host.
#[derive(Clone, Debug)]
pub struct Report {
    /// The trouble that the counters show, the worst first.
    pub troubles: Vec<Finding>,
    /// A line for every setting, the worst first.
    pub lines: Vec<Line>,
}

impl Report {
    /// All troubles, then all lines; each the worst first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.troubles.iter().chain(self.lines.iter().map(|line| &line.finding))
    }

    /// Whether something is wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.findings().any(|finding| finding.severity >= Severity::Warning)
    }
}

/// Judges `frame`. Settings of the whole host are left out unless `with_host`: another namespace has shown them.
#[must_use]
pub fn examine(frame: &HostFrame, with_host: bool) -> Report {
    let mut troubles = Vec::new();
    backlog::overflow(frame, &mut troubles);
    syn::flood(frame, &mut troubles);
    time_wait::overflow(frame, &mut troubles);
    ports::exhaustion(frame, &mut troubles);
    orphans::limit(frame, with_host, &mut troubles);
    if with_host {
        descriptors::near_limit(frame, &mut troubles);
    }
    let settings = Setting::ALL.into_iter().filter(|&setting| {
        // All namespaces have the limit of the first, and each a count of its own.
        let is_counted = setting == Setting::NfConntrackMax && frame.conntrack.count.is_some();
        with_host || SettingFacts::for_setting(setting).namespaced || is_counted
    });
    let mut lines: Vec<Line> = settings.map(|setting| line(frame, setting)).collect();
    for finding in lines.iter_mut().map(|line| &mut line.finding).chain(&mut troubles) {
        if let Some(netns) = frame.netns {
            finding.evidence.push(("netns", u64::from(netns).into()));
        }
    }
    troubles.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    lines.sort_by_key(|line| std::cmp::Reverse((line.finding.severity, line.standing)));
    Report { troubles, lines }
}

/// What `setting` is and does here.
fn judge(frame: &HostFrame, setting: Setting) -> Judgement {
    match setting {
        Setting::TcpSyncookies => syn::cookies(frame),
        Setting::TcpMaxSynBacklog => syn::backlog(frame),
        Setting::TcpTwReuse => time_wait::reuse(frame),
        Setting::TcpTwRecycle => time_wait::recycle(frame),
        Setting::TcpFinTimeout => time_wait::fin_timeout(frame),
        Setting::TcpMaxTwBuckets => time_wait::buckets(frame),
        Setting::TcpTimestamps => time_wait::timestamps(frame),
        Setting::IpLocalPortRange => ports::range(frame),
        Setting::IpLocalReservedPorts => ports::reserved(frame),
        Setting::Somaxconn => backlog::somaxconn(frame),
        Setting::TcpAbortOnOverflow => backlog::abort(frame),
        Setting::TcpMaxOrphans => orphans::most(frame),
        Setting::TcpOrphanRetries => orphans::retries(frame),
        Setting::TcpRetries2 => retries::judge(frame),
        Setting::FileMax => descriptors::file_max(frame),
        Setting::NrOpen => descriptors::nr_open(frame),
        Setting::NfConntrackMax => conntrack::judge(frame),
        // No counter of the host shows whether another value would be better.
        Setting::TcpKeepaliveTime
        | Setting::TcpKeepaliveIntvl
        | Setting::TcpKeepaliveProbes
        | Setting::TcpRetries1
        | Setting::TcpSynRetries
        | Setting::TcpSynackRetries => Judgement::fine(),
    }
}

/// The line for `setting`.
fn line(frame: &HostFrame, setting: Setting) -> Line {
    let default = SettingFacts::for_setting(setting).default_on(frame.release());
    let by_memory = frame.default_of(setting);
    let text = frame.settings.get(&setting).map(String::as_str);
    let mut verdict = match (frame.unread.get(&setting), text) {
        (Some(why), _) => Judgement::unknown(why),
        (None, Some(text)) if !is_understood(setting, text) => {
            Judgement::unknown("this is no value that a kernel shows")
        }
        _ => judge(frame, setting),
    };
    let is_known = verdict.standing != Standing::Unknown;
    for oddity in text
        .filter(|_| is_known)
        .into_iter()
        .flat_map(|text| files::oddities(frame, setting, text))
    {
        verdict.standing = Standing::Notable;
        verdict.words = join_non_empty([verdict.words.as_str(), &oddity], "; ");
    }
    let place = frame.line_of(setting).map(|line| line.place.clone());
    let mut evidence = vec![
        ("value", text.map_or(Value::Unknown, format::value)),
        (
            "default",
            by_memory.map_or_else(|| format::default_value(default), Value::Count),
        ),
        ("set_by", place.as_ref().map(ToString::to_string).as_deref().into()),
    ];
    evidence.append(&mut verdict.evidence);
    for counter in &verdict.counters {
        evidence.push((counter.name().1, frame.counter(*counter).into()));
    }
    if !verdict.counters.is_empty() {
        evidence.push(("counted_s", frame.counted_s().into()));
    }
    let value = text.map(format::shortened);
    let is = match value.as_deref() {
        Some("") => "is empty".into(),
        Some(value) => format!("is {value}"),
        None if is_known => "is not there".into(),
        None => "is unknown".into(),
    };
    let beside = match by_memory {
        Some(default) if text == Some(default.to_string().as_str()) => " (default)".into(),
        Some(default) => format!(" (default {default})"),
        None => format::beside(default, text),
    };
    Line {
        setting,
        value,
        place,
        standing: verdict.standing,
        finding: Finding {
            kind: FindingKind::Host,
            topic: Topic::Setting(setting),
            severity: verdict.severity,
            title: join_non_empty([&format!("{} {is}{beside}", setting.sysctl()), &verdict.words], ": "),
            evidence,
            advice: verdict.advice,
            owner: None,
        },
        words: verdict.words,
        beside,
    }
}

/// Those of `parts` that are not empty.
fn join_non_empty(parts: [&str; 2], between: &str) -> String {
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(between)
}

/// Whether `text` is what a kernel shows of `setting`.
fn is_understood(setting: Setting, text: &str) -> bool {
    match setting {
        Setting::IpLocalPortRange => PortRange::parse(text, "").is_some(),
        Setting::IpLocalReservedPorts => PortRange::parse("1 65535", text).is_some(),
        _ => text.parse::<u64>().is_ok(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
