//! How a setting is changed: what to type, what makes it last, and the risk. Whose namespace it is decides how.

use crate::explain::facts::Facts;
use crate::input::escaped::Escaped;
use crate::input::host::Place;
use crate::input::namespace::Namespace;
use crate::input::namespace::Scope;
use crate::input::setting::Setting;

/// Where a setting is to be changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where<'a> {
    /// Whose namespace it is.
    pub(crate) scope: &'a Scope,
    /// Whether it is the one the host started with.
    pub(crate) first: bool,
    /// What sets it at boot.
    pub(crate) kept: Kept<'a>,
}

/// What sets a setting at boot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept<'a> {
    /// Files were not looked at.
    Unknown,
    /// No file.
    Nowhere,
    /// This line of one.
    At(&'a Place),
}

impl<'a> From<&'a Namespace> for Where<'a> {
    fn from(namespace: &'a Namespace) -> Self {
        Self {
            scope: &namespace.scope,
            first: namespace.first,
            kept: Kept::Unknown,
        }
    }
}

impl Where<'_> {
    /// What to do to set `setting` to `value` there, step by step.
    pub(crate) fn set(self, setting: Setting, value: &str, risk: &str) -> Vec<String> {
        let name = setting.sysctl();
        let typed = if value.contains(' ') {
            format!("\"{value}\"")
        } else {
            value.to_owned()
        };
        let command = format!("sysctl -w {name}={typed}");
        // The first namespace alone shows those of net that have one value for all.
        let is_there = Facts::of(setting).namespaced || self.first && name.starts_with("net.");
        let command = match self.scope {
            Scope::Other(Some(path)) if is_there => format!("nsenter --net={} {command}", quoted(path)),
            Scope::Other(None) if is_there => format!("in that namespace: {command}"),
            _ => command,
        };
        let mut steps = Vec::from(match self.scope {
            Scope::Other(_) if !self.first && Facts::of(setting).namespaced => [
                command,
                format!("to keep it, set it where that namespace is made: {name} = {value}"),
            ],
            Scope::Own if !self.first && Facts::of(setting).namespaced => [
                command,
                format!(
                    "to keep it, set it where this namespace is made (docker run --sysctl, a pod's securityContext): {name}={typed}"
                ),
            ],
            Scope::Own | Scope::Other(_) if !self.first && is_read_only(setting) => [
                format!("in the namespace the host started with, for the others read it from there: {command}"),
                format!("to keep it, in /etc/sysctl.d/{FILE} of the host: {name} = {value}"),
            ],
            _ => [
                command,
                match self.kept {
                    Kept::At(line) if line.file.starts_with("/etc/") => {
                        format!("to keep it, in place of {line}: {name} = {value}")
                    }
                    // The file is a package's, or is gone at the next boot (sysctl.d(5)).
                    Kept::At(line) => format!(
                        "to keep it, in /etc/sysctl.d/{}, which is read after {line}: {name} = {value}",
                        Escaped(read_after(&line.file).as_bytes()),
                    ),
                    Kept::Nowhere => format!("to keep it, in /etc/sysctl.d/{FILE}: {name} = {value}"),
                    Kept::Unknown => format!(
                        "to keep it, in the file that sets it at boot (tcpwatch doctor names it), or in /etc/sysctl.d/{FILE} where none \
                         does: {name} = {value}"
                    ),
                },
            ],
        });
        if setting == Setting::NfConntrackMax {
            steps.push(
                "and a line nf_conntrack in a file of /etc/modules-load.d: without the module there is no such setting yet when it is read"
                    .into(),
            );
        }
        steps.push(format!("risk: {risk}"));
        steps
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

/// The same for `namespace`; `None` is one of several, and nobody knows which.
pub(crate) fn set(namespace: Option<&Namespace>, setting: Setting, value: &str, risk: &str) -> Vec<String> {
    let Some(namespace) = namespace else {
        return vec![
            format!(
                "in the namespace that it is of (tcpwatch doctor --netns all tells more of each): {} = {value}",
                setting.sysctl()
            ),
            format!("risk: {risk}"),
        ];
    };
    Where::from(namespace).set(setting, value, risk)
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

    #[test]
    fn what_is_typed_is_for_the_namespace_that_was_looked_at() {
        let set = |namespace: Option<&Namespace>| set(namespace, Setting::TcpTwReuse, "1", "small");
        let of = |scope, first| Namespace { inode: 7, scope, first };
        let typed = |scope, first| set(Some(&of(scope, first)));
        assert_eq!(
            typed(Scope::Own, true),
            [
                "sysctl -w net.ipv4.tcp_tw_reuse=1",
                "to keep it, in the file that sets it at boot (tcpwatch doctor names it), or in /etc/sysctl.d/90-tcp.conf where none \
                 does: net.ipv4.tcp_tw_reuse = 1",
                "risk: small"
            ]
        );
        assert!(typed(Scope::Own, false)[1].contains("where this namespace is made"));
        let other = typed(Scope::Other(Some("/run/netns/a b".into())), false);
        assert_eq!(
            other[0],
            "nsenter --net='/run/netns/a b' sysctl -w net.ipv4.tcp_tw_reuse=1"
        );
        assert!(other[1].contains("where that namespace is made"));
        // The one the host started with is made at boot, and it alone shows what is one for all.
        let first = typed(Scope::Other(Some("/proc/1/ns/net".into())), true);
        assert_eq!(
            first[0],
            "nsenter --net=/proc/1/ns/net sysctl -w net.ipv4.tcp_tw_reuse=1"
        );
        assert!(first[1].contains("file that sets it at boot"), "{first:?}");
        let there = of(Scope::Other(None), true);
        let typed = |setting| super::set(Some(&there), setting, "7", "small")[0].clone();
        assert_eq!(
            typed(Setting::TcpMaxOrphans),
            "in that namespace: sysctl -w net.ipv4.tcp_max_orphans=7"
        );
        assert_eq!(typed(Setting::FileMax), "sysctl -w fs.file-max=7");
        assert!(
            set(None).iter().all(|step| !step.contains("sysctl -w")),
            "nothing to type in the wrong one"
        );
    }
}
