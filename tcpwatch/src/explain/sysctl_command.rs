//! How to change a setting: the command, how to keep the value after a reboot, and the risk. It depends on the network
//! namespace.

use crate::input::escaped::Escaped;
use crate::input::host::Place;
use crate::input::namespace::Namespace;
use crate::input::namespace::Scope;
use crate::input::setting::Setting;
use crate::input::setting_defaults::SettingFacts;

/// Where to change a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where<'a> {
    /// Where the namespace belongs.
    pub(crate) scope: &'a Scope,
    /// Whether it is the initial network namespace.
    pub(crate) first: bool,
    /// The file that sets it at boot.
    pub(crate) kept: Kept<'a>,
}

/// The file that sets a setting at boot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept<'a> {
    /// The files were not read.
    Unknown,
    /// No file.
    Nowhere,
    /// This line of a file.
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
    /// The steps that set `setting` to `value` in this namespace.
    pub(crate) fn set(self, setting: Setting, value: &str, risk: &str) -> Vec<String> {
        let name = setting.sysctl();
        let typed = if value.contains(' ') {
            format!("\"{value}\"")
        } else {
            value.to_owned()
        };
        let command = format!("sysctl -w {name}={typed}");
        // Only the initial namespace shows settings of `net` that have one value for the whole host.
        let is_there = SettingFacts::for_setting(setting).namespaced || self.first && name.starts_with("net.");
        let command = match self.scope {
            Scope::Other(Some(path)) if is_there => format!("nsenter --net={} {command}", quoted(path)),
            Scope::Other(None) if is_there => format!("in that namespace: {command}"),
            _ => command,
        };
        let mut steps = Vec::from(match self.scope {
            Scope::Other(_) if !self.first && SettingFacts::for_setting(setting).namespaced => [
                command,
                format!("to keep it, set it where that namespace is made: {name} = {value}"),
            ],
            Scope::Own if !self.first && SettingFacts::for_setting(setting).namespaced => [
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
                    // The file belongs to a package, or is removed at the next boot (sysctl.d(5)).
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

/// The file name for a setting that no file sets yet.
const FILE: &str = "90-tcp.conf";

/// The name of a file that is read after `path`. Files are read in the order of their names, regardless of the directory.
fn read_after(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    if FILE > name {
        FILE.into()
    } else {
        // Letters and the underscore sort after the dot.
        format!("{}_tcp.conf", name.strip_suffix(".conf").unwrap_or(name))
    }
}

/// Whether other namespaces than the initial one show `setting` read-only (`nf_conntrack_standalone_init_sysctl`).
const fn is_read_only(setting: Setting) -> bool {
    matches!(setting, Setting::NfConntrackMax)
}

/// The steps for `namespace`; `None` is an unknown one of several namespaces.
pub(crate) fn set(namespace: Option<&Namespace>, setting: Setting, value: &str, risk: &str) -> Vec<String> {
    let Some(namespace) = namespace else {
        return vec![
            format!(
                "in the affected namespace (tcpwatch doctor --netns all shows each): {} = {value}",
                setting.sysctl()
            ),
            format!("risk: {risk}"),
        ];
    };
    Where::from(namespace).set(setting, value, risk)
}

/// `path`, quoted for a shell.
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
    fn commands_are_for_the_right_namespace() {
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
        // The initial namespace exists since boot, and only it shows the settings of the whole host.
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
