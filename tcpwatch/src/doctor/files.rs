//! Compares the files that set a setting at boot with the kernel.

use super::format::shortened;
use crate::input::host::HostFrame;
use crate::input::ports::range::PortRange;
use crate::input::setting::Setting;

/// Lines of files that do not set `setting` to `text`, which the kernel has: a sentence each, without their full stops.
pub(super) fn oddities(frame: &HostFrame, setting: Setting, text: &str) -> Vec<String> {
    let mut oddities = Vec::new();
    if let Some(line) = frame.line_of(setting) {
        let line_sets = format!("{} sets {}", line.place, shown(&line.value));
        let failed = if setting == Setting::NfConntrackMax {
            "failed at boot, before nf_conntrack was there"
        } else {
            "failed at boot"
        };
        match (meant(setting, &line.value), meant(setting, text)) {
            (None, _) => oddities.push(format!("{line_sets}, which the kernel does not take")),
            (Some(file), Some(kernel)) if file != kernel => oddities.push(format!(
                "{line_sets}: it was not applied since it was written (sysctl --system), {failed}, or something else was set since"
            )),
            _ => {}
        }
    }
    if let Some(line) = frame.unread_line_of(setting) {
        oddities.push(format!(
            "{} sets {}, and nobody reads it at boot: systemd-sysctl reads /etc/sysctl.d, and this file where a link there leads to it",
            line.place,
            shown(&line.value)
        ));
    }
    oddities
}

fn shown(value: &str) -> String {
    if value.is_empty() {
        "nothing".into()
    } else {
        shortened(value)
    }
}

/// What is set by writing a text.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Number(u64),
    Range(u64, u64),
    Ports(Box<PortRange>),
}

/// `text` of `setting` as the kernel parses it; `None` if the kernel refuses it.
fn meant(setting: Setting, text: &str) -> Option<Meaning> {
    let mut words = text.split_ascii_whitespace();
    match setting {
        // Order and repetitions do not matter (`proc_do_large_bitmap`).
        Setting::IpLocalReservedPorts => Some(Meaning::Ports(Box::new(PortRange::parse("1 65535", text)?))),
        Setting::IpLocalPortRange => Some(Meaning::Range(number(words.next()?)?, number(words.next()?)?)),
        // The kernel ignores all but the first word (`do_proc_dointvec`).
        _ => Some(Meaning::Number(number(words.next()?)?)),
    }
}

/// A number as C writes it: 16, 020, 0x10 (`strtoul_lenient`).
fn number(text: &str) -> Option<u64> {
    let (digits, base) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let is_number = digits.chars().all(|digit| digit.is_digit(base));
    u64::from_str_radix(digits, base).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a kernel took them that was asked.
    #[test]
    fn a_text_means_what_the_kernel_makes_of_it() {
        let somaxconn = |text| match meant(Setting::Somaxconn, text) {
            Some(Meaning::Number(number)) => Some(number),
            _ => None,
        };
        assert_eq!(somaxconn("128"), Some(128));
        assert_eq!(
            (somaxconn("0x100"), somaxconn("0200"), somaxconn("0")),
            (Some(256), Some(128), Some(0))
        );
        assert_eq!((somaxconn("128 # comment"), somaxconn("132 5")), (Some(128), Some(132)));
        for refused in ["", "129;", "-1", "+1", "0x", "08", "many"] {
            assert_eq!(somaxconn(refused), None, "{refused:?}");
        }
        let range = |text| meant(Setting::IpLocalPortRange, text);
        assert_eq!(range("1024 65535"), range("1024\t65535"));
        assert!(range("1024 65535").is_some() && range("1024").is_none());
        let ports = |text| meant(Setting::IpLocalReservedPorts, text);
        assert_eq!(ports("30001,30000,40000"), ports("30000-30001,40000"));
        assert!(ports("30001") != ports("30000") && ports("5000 6000").is_none() && ports("").is_some());
    }
}
