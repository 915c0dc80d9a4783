//! `doctor`: its settings are those of /proc/sys, its counters those of /proc/net/snmp and /proc/net/netstat.

use std::fs;

use super::workload;
use crate::support::netns::in_netns;
use crate::support::peers::snmp;
use crate::support::program::doctor::{counters, doctor, settings};

#[test]
fn numbers_are_the_kernels() {
    in_netns(|_| {
        workload::run();
        let findings = doctor(&[]);
        let settings = settings(&findings);
        assert!(settings.len() >= 15, "{settings:?}");
        for (name, value) in &settings {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(*value, text.split_whitespace().collect::<Vec<_>>().join(" "), "{name}");
        }
        let kernel = snmp::read();
        let counters = counters(&findings);
        assert!(counters.len() >= 10, "{counters:?}");
        for (name, value) in &counters {
            let (group, counter) = name.split_at(if name.starts_with("TcpExt") { 6 } else { 3 });
            assert_eq!(
                Ok(*value),
                kernel.get(&format!("{group}:{counter}")).try_into(),
                "{name}"
            );
        }
    });
}
