//! A verdict on one setting.

use super::Standing;
use crate::diagnose::finding::{Severity, Value};
use crate::explain::facts::Facts;
use crate::explain::setting::Setting;
use crate::model::counter::Counter;
use crate::model::escaped::Escaped;
use crate::model::host::{HostFrame, Scope};

/// What is to be said of a setting here.
pub(super) struct Verdict {
    pub(super) severity: Severity,
    pub(super) standing: Standing,
    /// A sentence without its full stop.
    pub(super) words: String,
    /// The counters it stands on.
    pub(super) counters: Vec<Counter>,
    /// Other numbers it stands on.
    pub(super) evidence: Vec<(&'static str, Value)>,
    pub(super) advice: Vec<String>,
}

impl Verdict {
    /// Nothing to do, and little to read.
    pub(super) fn fine(words: impl Into<String>) -> Self {
        Self {
            severity: Severity::Info,
            standing: Standing::Fine,
            words: words.into(),
            counters: Vec::new(),
            evidence: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// It is not known.
    pub(super) fn unknown(words: impl Into<String>) -> Self {
        Self {
            standing: Standing::Unknown,
            ..Self::fine(words)
        }
    }

    /// Worth knowing.
    pub(super) fn note(words: impl Into<String>) -> Self {
        Self {
            standing: Standing::Notable,
            ..Self::fine(words)
        }
    }

    /// It hurts.
    pub(super) fn warning(words: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::note(words)
        }
    }

    /// Connections fail for it.
    pub(super) fn critical(words: impl Into<String>) -> Self {
        Self {
            severity: Severity::Critical,
            ..Self::note(words)
        }
    }

    pub(super) fn counters(mut self, counters: &[Counter]) -> Self {
        self.counters.extend(counters);
        self
    }

    pub(super) fn evidence(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.evidence.push((name, value.into()));
        self
    }

    pub(super) fn step(mut self, step: impl Into<String>) -> Self {
        self.advice.push(step.into());
        self
    }

    /// To set `setting` to `value`: what to type, what makes it last, and the risk.
    pub(super) fn set(mut self, frame: &HostFrame, setting: Setting, value: &str, risk: &str) -> Self {
        let name = setting.sysctl();
        let typed = if value.contains(' ') {
            format!("\"{value}\"")
        } else {
            value.to_owned()
        };
        let command = format!("sysctl -w {name}={typed}");
        match &frame.scope {
            Scope::Other(path) if Facts::of(setting).namespaced => {
                self.advice.push(match path {
                    Some(path) => format!("nsenter --net={} {command}", quoted(path)),
                    None => format!("in that namespace: {command}"),
                });
                self.advice.push(format!(
                    "to keep it, set it where that namespace is made: {name} = {value}"
                ));
            }
            Scope::Own if !frame.first && Facts::of(setting).namespaced => {
                self.advice.push(command);
                self.advice.push(format!(
                    "to keep it, set it where this namespace is made (docker run --sysctl, a pod's securityContext): {name}={typed}"
                ));
            }
            Scope::Own | Scope::Other(_) if !frame.first && is_read_only(setting) => {
                self.advice.push(format!(
                    "in the namespace the host started with, for the others read it from there: {command}"
                ));
                self.advice.push(format!(
                    "to keep it, in /etc/sysctl.d/90-tcp.conf of the host: {name} = {value}"
                ));
            }
            _ => {
                self.advice.push(command);
                self.advice.push(match frame.line_of(setting) {
                    Some(line) if line.place.file.starts_with("/etc/") => {
                        format!("to keep it, in place of {}: {name} = {value}", line.place)
                    }
                    // The file is a package's, or is gone at the next boot (sysctl.d(5)).
                    Some(line) => format!(
                        "to keep it, in /etc/sysctl.d/{}, which is read after {}: {name} = {value}",
                        Escaped(read_after(&line.place.file).as_bytes()),
                        line.place
                    ),
                    None => format!("to keep it, in /etc/sysctl.d/{FILE}: {name} = {value}"),
                });
            }
        }
        if setting == Setting::NfConntrackMax {
            self.advice.push(
                "and a line nf_conntrack in a file of /etc/modules-load.d: without the module there is no such setting yet when it is read"
                    .into(),
            );
        }
        self.advice.push(format!("risk: {risk}"));
        self
    }
}

/// Where a setting is kept that no file has yet.
const FILE: &str = "90-tcp.conf";

/// The name of a file that is read after that at `path`: files are read by name, whatever their directory.
fn read_after(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    if FILE > name {
        FILE.into()
    } else {
        // A letter, and the underscore, come after the dot.
        format!("{}_tcp.conf", name.strip_suffix(".conf").unwrap_or(name))
    }
}

/// Whether other namespaces than the first show `setting` and take no value for it (`nf_conntrack_standalone_init_sysctl`).
const fn is_read_only(setting: Setting) -> bool {
    matches!(setting, Setting::NfConntrackMax)
}

/// `path` as a shell wants it typed.
fn quoted(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let escaped = Escaped(path.as_bytes());
    if path.bytes().all(plain) {
        escaped.to_string()
    } else {
        format!("'{escaped}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_after_those_of_smaller_names() {
        for (path, after) in [
            ("/run/sysctl.d/60-x.conf", "90-tcp.conf"),
            ("/usr/lib/sysctl.d/90-tcp.conf", "90-tcp_tcp.conf"),
            ("/usr/lib/sysctl.d/99-x.conf", "99-x_tcp.conf"),
            ("/usr/lib/sysctl.d/zz.conf", "zz_tcp.conf"),
        ] {
            let name = path.rsplit_once('/').map(|(_, name)| name);
            assert_eq!(read_after(path), after);
            assert!(Some(after) > name);
        }
    }
}
