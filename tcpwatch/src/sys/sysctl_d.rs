//! The settings that files set at boot: /etc/sysctl.conf and the directories of sysctl.d(5).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::host_root::{Content, HostRoot, why};
use crate::input::host::{ConfigLine, Fate, Missing, Place};
use crate::input::setting::Setting;

/// The directories. A file in an earlier directory hides files with the same name in later ones (sysctl(8) `--system`,
/// sysctl.d(5)).
const DIRECTORIES: [&str; 5] = [
    "etc/sysctl.d",
    "run/sysctl.d",
    "usr/local/lib/sysctl.d",
    "usr/lib/sysctl.d",
    "lib/sysctl.d",
];
/// The parent of most of these files.
const ETC: &str = "etc";
/// sysctl(8) reads it last. systemd-sysctl reads it only through a link in one of the directories, in the order of the link's
/// name.
const CONF: &str = "etc/sysctl.conf";
/// Paths of systemd-sysctl. If it exists, it reads the files at boot.
const SYSTEMD: [&str; 2] = ["usr/lib/systemd/systemd-sysctl", "lib/systemd/systemd-sysctl"];
/// Paths of sysctl(8), which reads the files at boot otherwise.
const PROCPS: [&str; 2] = ["usr/sbin/sysctl", "sbin/sysctl"];

/// The lines under `tree` that set a known setting, in the order in which they are read, and which of them wins: the last one.
/// Files are read by name, regardless of the directory; /etc/sysctl.conf at the position that the program at boot uses. Files that
/// cannot be read are added to `missing`, and so is /etc if it was not copied.
#[must_use]
pub fn resolve(tree: &HostRoot, missing: &mut Vec<Missing>) -> Vec<ConfigLine> {
    if tree.is_copied() && !tree.has(ETC) {
        missing.push(Missing {
            path: format!("/{ETC}"),
            why: "not found, so the settings at boot are unknown".into(),
        });
    }
    let conf = tree.read(CONF);
    let is_conf = |content: &Content| {
        conf.as_ref().is_ok_and(|conf| {
            // The copy may have resolved links.
            let is_copy = tree.is_copied() && !conf.bytes.is_empty() && content.bytes == conf.bytes;
            content.identity == conf.identity || is_copy
        })
    };
    let mut lines = Vec::new();
    let mut is_linked = false;
    for path in files(tree, missing) {
        match tree.read(&path) {
            Ok(content) if is_conf(&content) => {
                is_linked = true;
                if is_by_systemd(tree, is_linked) {
                    parse(CONF, &content.bytes, Fate::Wins, &mut lines);
                }
            }
            Ok(content) => {
                note_cut(&path, &content, missing);
                parse(&path, &content.bytes, Fate::Wins, &mut lines);
            }
            Err(error) => note_unread(tree, &path, &error, missing),
        }
    }
    let by_systemd = is_by_systemd(tree, is_linked);
    match conf {
        Ok(_) if is_linked && by_systemd => {}
        Ok(content) => {
            note_cut(CONF, &content, missing);
            let fate = if by_systemd { Fate::NotRead } else { Fate::Wins };
            parse(CONF, &content.bytes, fate, &mut lines);
        }
        Err(error) => note_unread(tree, CONF, &error, missing),
    }
    let mut set = Vec::new();
    for line in lines.iter_mut().rev().filter(|line| line.fate == Fate::Wins) {
        if set.contains(&line.setting) {
            line.fate = Fate::Overridden;
        }
        set.push(line.setting);
    }
    lines
}

/// Records why the file at `path` could not be read. A link to /dev/null disables a file, and a dangling link counts as no
/// file.
fn note_unread(tree: &HostRoot, path: &str, error: &io::Error, missing: &mut Vec<Missing>) {
    if error.kind() != io::ErrorKind::NotFound && !tree.is_null(path) {
        missing.push(unread(path, error));
    }
}

/// Records that the file at `path` is longer than the part that was read.
fn note_cut(path: &str, content: &Content, missing: &mut Vec<Missing>) {
    if content.cut {
        missing.push(unread(
            path,
            &io::Error::other("longer than 1 MiB, the rest was not read"),
        ));
    }
}

/// The files of all directories, sorted by name.
fn files(tree: &HostRoot, missing: &mut Vec<Missing>) -> impl Iterator<Item = String> + use<> {
    let mut files = BTreeMap::new();
    for directory in DIRECTORIES {
        match tree.names(directory) {
            Ok(names) => {
                for name in names
                    .iter()
                    .filter_map(|name| name.to_str())
                    .filter(|name| Path::new(name).extension() == Some(OsStr::new("conf")))
                {
                    files
                        .entry(name.to_owned())
                        .or_insert_with(|| format!("{directory}/{name}"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => missing.push(unread(directory, &error)),
        }
    }
    files.into_values()
}

/// Whether systemd-sysctl reads the files. Copied files often lack the programs of their host; then a link to /etc/sysctl.conf
/// shows it, because only systemd-sysctl needs the link.
fn is_by_systemd(tree: &HostRoot, is_linked: bool) -> bool {
    let has = |paths: [&str; 2]| paths.iter().any(|path| tree.has(path));
    has(SYSTEMD) || (is_linked && !has(PROCPS))
}

fn unread(path: &str, error: &io::Error) -> Missing {
    Missing {
        path: format!("/{path}"),
        why: why(error),
    }
}

/// Parses lines such as `net.ipv4.tcp_fin_timeout = 30`. A name may have slashes instead of dots, and a leading `-` (ignore
/// errors).
fn parse(path: &str, bytes: &[u8], fate: Fate, lines: &mut Vec<ConfigLine>) {
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let name = name.trim().trim_start_matches('-').replace('/', ".");
        if let Some(setting) = Setting::ALL.into_iter().find(|setting| setting.sysctl() == name) {
            lines.push(ConfigLine {
                setting,
                value: value.split_whitespace().collect::<Vec<_>>().join(" "),
                place: Place {
                    file: format!("/{path}"),
                    line: number + 1,
                },
                fate,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of `files`; what is read of it.
    fn read(files: &[(&str, &str)], links: &[(&str, &str)]) -> (Vec<String>, Vec<Missing>) {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        for (path, text) in files {
            fs::write(at(path), text).unwrap();
        }
        for (path, target) in links {
            symlink(target, at(path)).unwrap();
        }
        let mut missing = Vec::new();
        let found = resolve(&HostRoot::open(root.path()).unwrap(), &mut missing);
        let told = found.iter().map(|line| {
            let fate = match line.fate {
                Fate::Wins => "",
                Fate::Overridden => ", overridden",
                Fate::NotRead => ", not read",
            };
            format!("{} {}={}{fate}", line.place, line.setting.key(), line.value)
        });
        (told.collect(), missing)
    }

    #[test]
    fn lines_are_read_as_sysctl_reads_them() {
        let text = "# net.ipv4.tcp_fin_timeout = 1\n; net.core.somaxconn=1\n\nnet.ipv4.tcp_fin_timeout=30\r\n\
            -net/core/somaxconn =  512 \nnet.ipv4.ip_local_port_range = 1024\t65535\nnet.ipv4.tcp_rmem = 1\n\
            net.core.somaxconn\nnet.ipv4.tcp_tw_recycle=1";
        let (told, missing) = read(&[("etc/sysctl.conf", text)], &[]);
        assert_eq!(
            told,
            [
                "/etc/sysctl.conf:4 tcp_fin_timeout=30",
                "/etc/sysctl.conf:5 somaxconn=512",
                "/etc/sysctl.conf:6 ip_local_port_range=1024 65535",
                "/etc/sysctl.conf:9 tcp_tw_recycle=1",
            ]
        );
        assert_eq!(missing, []);
    }

    #[test]
    fn files_go_by_name_and_the_first_directory_hides_the_others() {
        let line = |value: &str| format!("net.core.somaxconn = {value}");
        let files = [
            ("usr/lib/sysctl.d/50-a.conf", line("1")),
            ("etc/sysctl.d/50-a.conf", line("2")),
            ("run/sysctl.d/60-b.conf", line("3")),
            ("etc/sysctl.d/10-c.conf", line("4")),
            ("usr/lib/sysctl.d/70-hidden.conf", line("5")),
            ("etc/sysctl.d/README", line("6")),
            ("etc/sysctl.conf", line("7")),
            ("sbin/sysctl", String::new()),
        ];
        let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
        let links = [
            ("etc/sysctl.d/70-hidden.conf", "/dev/null"),
            ("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf"),
        ];
        let (told, missing) = read(&files, &links);
        assert_eq!(
            told,
            [
                "/etc/sysctl.d/10-c.conf:1 somaxconn=4, overridden",
                "/etc/sysctl.d/50-a.conf:1 somaxconn=2, overridden",
                "/run/sysctl.d/60-b.conf:1 somaxconn=3, overridden",
                "/etc/sysctl.conf:1 somaxconn=7",
            ]
        );
        assert_eq!(missing, []);
    }

    /// As systemd-sysctl reads them (`systemd-sysctl --cat-config`).
    #[test]
    fn systemd_reads_sysctl_conf_by_the_name_of_a_link_to_it_or_not_at_all() {
        let files = [
            ("etc/sysctl.conf", "net.core.somaxconn = 1024"),
            ("etc/sysctl.d/99-zz.conf", "net.core.somaxconn = 4096"),
        ];
        let program = [("usr/lib/systemd/systemd-sysctl", ""), ("usr/sbin/sysctl", "")];
        let link = [("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")];
        let order = |program: &[(&'static str, &'static str)], links: &[(&str, &str)]| {
            let (told, missing) = read(&[&files[..], program].concat(), links);
            assert_eq!(missing, []);
            told
        };
        let conf_first = [
            "/etc/sysctl.conf:1 somaxconn=1024, overridden",
            "/etc/sysctl.d/99-zz.conf:1 somaxconn=4096",
        ];
        let conf_last = [
            "/etc/sysctl.d/99-zz.conf:1 somaxconn=4096, overridden",
            "/etc/sysctl.conf:1 somaxconn=1024",
        ];
        assert_eq!(order(&program, &link), conf_first);
        assert_eq!(order(&[], &link), conf_first, "a tree without programs");
        let followed = [("etc/sysctl.d/99-sysctl.conf", "net.core.somaxconn = 1024")];
        assert_eq!(order(&followed, &[]), conf_first, "a link that was followed");
        assert_eq!(order(&program[1..], &link), conf_last, "sysctl --system");
        assert_eq!(order(&program[1..], &[]), conf_last);
        assert_eq!(order(&[], &[]), conf_last);
        assert_eq!(
            order(&program[..1], &[]),
            [
                "/etc/sysctl.d/99-zz.conf:1 somaxconn=4096",
                "/etc/sysctl.conf:1 somaxconn=1024, not read"
            ]
        );
    }

    #[test]
    fn garbage_sets_nothing_and_unreadable_files_are_reported() {
        let (told, missing) = read(&[("etc/sysctl.d/a.conf", "\0\u{1b}[2J=\n==\n=1")], &[]);
        assert_eq!((told.len(), missing.len()), (0, 0));
        let long = format!("net.core.somaxconn=1\n{}", "#".repeat(1 << 20));
        let (told, missing) = read(&[("etc/sysctl.d/a.conf", &long)], &[]);
        assert_eq!(
            (told.len(), missing[0].to_string().as_str()),
            (1, "/etc/sysctl.d/a.conf: longer than 1 MiB, the rest was not read")
        );
        let (told, missing) = read(&[("proc/stat", "")], &[]);
        assert_eq!(
            (told.len(), missing[0].to_string().as_str()),
            (0, "/etc: not found, so the settings at boot are unknown")
        );
        let (told, missing) = read(&[("etc/sysctl.d/a.conf/x", ""), ("etc/sysctl.conf/x", "")], &[]);
        let why: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(
            (told.len(), why),
            (
                0,
                ["/etc/sysctl.d/a.conf", "/etc/sysctl.conf"]
                    .map(|path| format!("{path}: not a regular file"))
                    .to_vec()
            )
        );
        let (told, missing) = read(&[("etc/sysctl.d", "")], &[("etc/sysctl.conf", "sysctl.conf")]);
        assert_eq!(told.len(), 0);
        let why: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert!(why[0].starts_with("/etc/sysctl.d: Not a directory"), "{why:?}");
        assert!(why[1].starts_with("/etc/sysctl.conf: Too many levels"), "{why:?}");
    }
}
