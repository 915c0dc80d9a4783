//! Warnings about facts that are unknown because a map was full.

use tcpwatch_common::Ledger;

use crate::model::format::thousands;
use crate::source::ebpf::Hook;

/// The warnings for `hook`, one line each.
pub(super) fn no_room(ledger: &Ledger, hook: Option<Hook>) -> Vec<String> {
    let mut words = Vec::new();
    if ledger.unremembered > 0 {
        words.push(format!(
            "owners and times of {} transitions are unknown: there was no room to keep the state of their \
            sockets; {}",
            thousands(ledger.unremembered),
            match hook {
                Some(Hook::Tracepoint) => "try a filter, or --hook tp_btf",
                _ => "try a larger net.core.optmem_max (sysctl)",
            }
        ));
    }
    if ledger.unkept_owners > 0 {
        words.push(format!(
            "the accepting processes of {} connections are unknown: the map of accepted connections was full",
            thousands(ledger.unkept_owners)
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_say_what_to_try() {
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
            words[0].starts_with("the accepting processes of 7 connections are unknown"),
            "{words:?}"
        );
    }
}
