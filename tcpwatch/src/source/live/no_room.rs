//! What is unknown because the kernel had no room for it.

use tcpwatch_common::Ledger;

use crate::model::number::thousands;
use crate::source::ebpf::Hook;

/// What `hook` found no room for, a line each.
pub(super) fn no_room(ledger: &Ledger, hook: Option<Hook>) -> Vec<String> {
    let mut words = Vec::new();
    if ledger.unremembered > 0 {
        words.push(format!(
            "there was no room to remember the sockets of {} transitions, and their owners and times are unknown: {}",
            thousands(ledger.unremembered),
            match hook {
                Some(Hook::Tracepoint) => "fewer connections take less, by a filter; or try --hook tp_btf",
                _ => "net.core.optmem_max may be too small (sysctl)",
            }
        ));
    }
    if ledger.unkept_owners > 0 {
        words.push(format!(
            "who accepted {} connections is unknown: there was no room to remember it until their next transition",
            thousands(ledger.unkept_owners)
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_found_no_room_is_told_with_what_to_do() {
        let mut ledger: Ledger = bytemuck::Zeroable::zeroed();
        assert_eq!(no_room(&ledger, Some(Hook::TpBtf)), [""; 0]);
        ledger.unremembered = 1234;
        for (hook, remedy) in [
            (Hook::TpBtf, "net.core.optmem_max"),
            (Hook::Tracepoint, "--hook tp_btf"),
        ] {
            let words = no_room(&ledger, Some(hook));
            assert_eq!(words.len(), 1);
            assert!(
                words[0].contains("1,234 transitions") && words[0].contains(remedy),
                "{words:?}"
            );
        }
        (ledger.unremembered, ledger.unkept_owners) = (0, 7);
        let words = no_room(&ledger, Some(Hook::TpBtf));
        assert_eq!(words.len(), 1);
        assert!(
            words[0].starts_with("who accepted 7 connections is unknown"),
            "{words:?}"
        );
    }
}
