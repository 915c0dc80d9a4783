//! Files of sysctl.d: of the lines that set a setting one wins, and each is where it is said to be.

use tcpwatch::input::host::Fate;
use tcpwatch::sys::host_root::HostRoot;
use tcpwatch::sys::sysctl_d::resolve;

use crate::tree::{parts, with_tree};

/// The files, in the order in which they are read.
const FILES: [&str; 3] = ["etc/sysctl.d/a.conf", "usr/lib/sysctl.d/b.conf", "etc/sysctl.conf"];

pub(crate) fn run(input: &[u8]) {
    with_tree!(|_| {}, |tree| {
        let mut contents = parts(input, FILES.len());
        let contents = FILES.map(|name| (name, contents.next().unwrap_or_default()));
        for (name, content) in contents {
            tree.write(name, content);
        }
        let root = HostRoot::open(tree.path()).expect("the tree is there");
        let mut missing = Vec::new();
        let lines = resolve(&root, &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
        let mut won = Vec::new();
        for line in lines {
            let of = contents.iter().find(|(name, _)| line.place.file == format!("/{name}"));
            let (_, content) = of.expect("a file that is there");
            let text = content.split(|&byte| byte == b'\n').nth(line.place.line - 1);
            assert!(text.expect("a line that is there").contains(&b'='));
            assert!(!line.value.contains('\n'), "{line:?}");
            if line.fate == Fate::Wins {
                won.push(line.setting);
            }
        }
        let count = won.len();
        won.sort_unstable();
        won.dedup();
        assert_eq!(won.len(), count, "a setting is set once");
    });
}
