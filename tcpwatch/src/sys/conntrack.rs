//! `/proc/net/stat/nf_conntrack`: counters of connection tracking, one line per CPU (`ct_cpu_seq_show`).

use crate::input::host::Conntrack;

/// Sums the hexadecimal columns `drop` and `early_drop`, which the first line names.
#[must_use]
pub fn parse(text: &str) -> Conntrack {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split_ascii_whitespace().collect()).collect();
    let sum = |name: &str| {
        let column = names.iter().position(|&found| found == name)?;
        let mut cells = rows.iter().map(|row| u64::from_str_radix(row.get(column)?, 16).ok());
        let total = cells.try_fold(0_u64, |total, cell| total.checked_add(cell?));
        total.filter(|_| !rows.is_empty())
    };
    Conntrack {
        count: None,
        dropped: sum("drop"),
        early_dropped: sum("early_drop"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_summed_by_name() {
        let text = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error\n\
            0000000a  00000000 00000000 00000000 0000001a 00000000 00000000 00000000 00000000 00000000 0000000f 00000001 00000000\n\
            0000000a  00000000 00000000 00000000 0000001a 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000\n";
        let found = parse(text);
        assert_eq!((found.dropped, found.early_dropped), (Some(16), Some(1)));
    }

    #[test]
    fn garbage_is_unknown() {
        for bad in [
            "",
            "drop\n",
            "drop early_drop\nx y\n",
            "drop\n\n",
            "drop\nffffffffffffffff\n1\n",
            "a b\n1 2\n",
            "\0\n\0",
        ] {
            assert_eq!(parse(bad), Conntrack::default(), "{bad:?}");
        }
    }
}
