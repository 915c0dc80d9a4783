//! Where bpf(2) is refused, one line says so on each kernel, however it counts the memory of maps.

use crate::support::netns::in_netns;
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::seccomp::{NEEDED, NOT_PERMITTED, refuse};

on_both_hooks!(one_line_says_so);

fn one_line_says_so(hook: Hook) {
    let mut wrong = Vec::new();
    for (refused, name) in NEEDED {
        let finished = in_netns(|_| {
            refuse(refused);
            finish(&tcpwatch(&["stat", "0.1", "2", "--hook", hook.name()]))
        });
        let how = finished.refused(1, NOT_PERMITTED).err();
        wrong.extend(how.map(|how| format!("{name}: {how}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
